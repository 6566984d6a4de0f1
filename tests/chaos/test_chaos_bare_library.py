"""The same mishaps happen to PySyncObj as shipped, which does not stand them.

Were these to fail, the tests of the engine that go through the same would be worth nothing: each
asserts that the fault is found, within so many attempts, by the checkers that find none there.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from constellation_core.testing.consensus.chaos import at_work
from constellation_core.testing.consensus.crashes import CrashGroup, Program
from constellation_core.testing.consensus.mishaps import (
    isolated_leader,
    overlapping_changes,
    paused_leader,
)
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces
from constellation_core.testing.waiting import NotInTimeError, until_so

pytestmark = pytest.mark.chaos

BARE = Program((sys.executable, Path(__file__).with_name("bare_voter.py")), lambda *_: None)
ATTEMPTS = 5


async def found(attempt: Callable[[Path], Awaitable[list[str]]], root: Path) -> list[str]:
    """What the first attempt that finds something finds."""
    for number in range(ATTEMPTS):
        folder = root / str(number)
        folder.mkdir()
        faults = await attempt(folder)
        if faults:
            return faults
    return []


async def test_a_kill_of_all_voters_loses_writes(tmp_path: Path) -> None:
    async def attempt(root: Path) -> list[str]:
        async with CrashGroup(root, program=BARE) as group:
            await group.start()
            await group.leader()
            async with group.load(16) as tally:
                for _ in range(3):
                    goal = len(tally.acknowledged) + 300
                    await until_so(lambda g=goal: len(tally.acknowledged) >= g, 30, "writes")
                    await group.kill(*group.voters)
                    await group.start()
            try:
                return await group.faults()
            except NotInTimeError as error:
                return [str(error)]

    faults = await found(attempt, tmp_path)
    assert any("lost" in fault or "different histories" in fault for fault in faults), faults


async def test_a_leader_that_was_paused_answers_what_is_no_longer_so(tmp_path: Path) -> None:
    async def attempt(root: Path) -> list[str]:
        group = CrashGroup(root, machine="state", program=BARE)
        async with group, at_work(root, group, holders=0) as work:
            await paused_leader(work)
            return await work.faults()

    faults = await found(attempt, tmp_path)
    assert any("not linearizable" in fault for fault in faults), faults


async def test_a_leader_that_is_cut_off_answers_what_is_no_longer_so(tmp_path: Path) -> None:
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)

    async def attempt(root: Path) -> list[str]:
        with NamespaceNetwork(("a", "b", "c")) as network:
            group = CrashGroup(root, machine="state", hosts=network, program=BARE)
            async with group, at_work(root, group, holders=0) as work:
                await isolated_leader(work, network)
                return await work.faults()

    faults = await found(attempt, tmp_path)
    assert any("not linearizable" in fault for fault in faults), faults


async def test_two_changes_of_the_voters_overlap(tmp_path: Path) -> None:
    async def attempt(root: Path) -> list[str]:
        async with CrashGroup(root, program=BARE) as group:
            await group.start()
            return await overlapping_changes(group)

    assert await found(attempt, tmp_path) == ["5 voters, and nothing was committed"]
