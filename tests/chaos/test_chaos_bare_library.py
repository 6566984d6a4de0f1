"""The same mishaps happen to PySyncObj as shipped, which does not stand them.

Were these to fail, the tests of the engine that go through the same would be worth nothing: each
asserts that the fault is found, within so many attempts, by the checkers that find none there.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from constellation_core.testing.consensus.chaos import at_work
from constellation_core.testing.consensus.crashes import CrashGroup, Program, VoterProcess
from constellation_core.testing.consensus.mishaps import (
    isolated_leader,
    overlapping_changes,
    paused_leader,
)
from constellation_core.testing.consensus.record import standing
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces
from constellation_core.testing.waiting import NotInTimeError, until_so

pytestmark = pytest.mark.chaos

BARE = Program((sys.executable, Path(__file__).with_name("bare_voter.py")), lambda *_: None)
ATTEMPTS = 16


async def found(attempt: Callable[[Path], Awaitable[list[str]]], root: Path) -> list[str]:
    """What the first attempt that finds something finds."""
    for number in range(ATTEMPTS):
        folder = root / str(number)
        folder.mkdir()
        faults = await attempt(folder)
        if faults:
            print(f"attempt {number + 1}: {faults[0][:60]}")  # noqa: T201
            return faults
    return []


async def lost(group: CrashGroup, leader: VoterProcess) -> list[str]:
    """What was acknowledged, and the leader does not know."""
    outcome, state = await group.ask(leader, "standing")
    assert outcome == "done"
    known = standing(state)
    return [str(number) for number in group.tally.acknowledged if not known.has(number)]


async def test_kills_between_snapshot_and_trim_lose_writes(tmp_path: Path) -> None:
    async def attempt(root: Path) -> list[str]:
        async with CrashGroup(root, program=BARE) as group:
            await group.start(*group.voters, fault=("journal.trim", 1))
            async with group.load(32):

                def killed() -> list[VoterProcess]:
                    return [each for each in group.voters if not each.runs]

                await until_so(lambda: len(killed()) >= 2, 30, "two kills")
                first = killed()
                await group.kill(*group.voters)
            # These come back first, and are a majority.
            await group.start(*first)
            # They may also come to a standstill for good, which is not what is sought here.
            with contextlib.suppress(NotInTimeError):
                return await lost(group, await group.leader(timeout=8, among=first))
            return []

    assert await found(attempt, tmp_path)


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
