"""Leases on real voters, while holders and leaders stand still and clocks jump.

Holders are processes that write to a sink, which refuses epochs lower than one that it has seen.
The clock since the boot is another one on each voter, by time namespaces of Linux, which cannot
change while a process runs, nor do they have a time of day: jumps of both during a run are made
within the processes (:mod:`constellation_core.testing.consensus.clocks`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from constellation_core.consensus.leases import LeaseTimes
from constellation_core.testing.consensus.chaos import Work, at_work
from constellation_core.testing.consensus.crashes import BRISK_TIMES, CrashGroup, VoterProcess
from constellation_core.testing.consensus.lease_history import violations
from constellation_core.testing.consensus.mishaps import others, paused_leader
from constellation_core.testing.namespaces import why_no_time_namespaces
from constellation_core.testing.waiting import until_so

pytestmark = pytest.mark.chaos

FOR_EVER = (10**6, 10**6)
"""Writes of a holder that does not let go."""

LONGER = LeaseTimes(ttl=5.0, grace=0.0, gather=0.1)
"""Enough for an election on a busy machine."""

DAY, YEAR = 86_400, 31_536_000


async def test_a_holder_that_stood_still_past_its_time_is_refused_by_the_sink(
    tmp_path: Path,
) -> None:
    group = CrashGroup(tmp_path, machine="state")
    async with group, at_work(tmp_path, group, writes=FOR_EVER) as work:
        contenders = work.contenders
        first = await contenders.held()
        name = first.holder.partition("/")[0]
        contenders.order(name, "stop")
        await contenders.paused(name)
        stopped = time.monotonic()
        second = await contenders.held(after=first.epoch)
        assert second.holder != first.holder
        assert second.at - stopped < BRISK_TIMES.ttl + 3
        contenders.resume(name)
        await until_so(lambda: contenders.refused, 10, "the late write")
        await until_so(lambda: contenders.lost, 10, "the end of its block")
        assert await work.faults() == []
    late = [write for write in contenders.sink.events if not write.accepted]
    assert {write.epoch for write in late} == {first.epoch}
    # A sink that does not fence would have taken it, and the checker says so.
    assert violations(replace(write, accepted=True) for write in contenders.sink.events)


async def test_a_leader_that_stands_still_costs_nobody_a_lease(tmp_path: Path) -> None:
    """Also when it wakes, and by its clock all leases have been over for long."""
    group = CrashGroup(tmp_path, machine="state", times=LONGER)
    async with group, at_work(tmp_path, group, writes=FOR_EVER) as work:
        contenders = work.contenders
        first = await contenders.held()
        old = await group.leader()
        group.pause(old)
        stopped = time.monotonic()
        await contenders.claimed(stopped + LONGER.patience(LONGER.ttl) + 0.5)
        group.resume(old)
        # Any end that it proposes has been refused by then.
        await contenders.claimed(time.monotonic() + LONGER.interval(LONGER.ttl))
        assert contenders.entered == [first]
        assert contenders.lost == 0
        assert await group.leader() is not old
        assert await work.faults() == []


async def test_what_clients_are_told_by_a_leader_that_stood_still_is_so(tmp_path: Path) -> None:
    group = CrashGroup(tmp_path, machine="state")
    async with group, at_work(tmp_path, group) as work:
        await paused_leader(work)
        assert await work.faults() == []


def time_namespace(voter: VoterProcess) -> Path:
    assert voter.process is not None
    return Path(f"/proc/{voter.process.pid}/ns/time").readlink()


async def set_all(work: Work, seconds: int) -> None:
    """Set the time of day on every voter, and of every holder when it comes to it."""
    for each in work.group.voters:
        assert (await work.group.ask(each, "clock", f"wall {seconds}".encode()))[0] == "done"
    for name in work.contenders.names:
        work.contenders.order(name, f"wall {seconds}")


async def test_the_time_of_day_and_of_the_boot_may_be_any(tmp_path: Path) -> None:
    missing = why_no_time_namespaces()
    if missing:
        pytest.skip(missing)
    group = CrashGroup(tmp_path, machine="state", times=LONGER)
    for each, booted in zip(group.voters, (0.0, 40.0 * DAY, YEAR), strict=True):
        each.booted = booted
    async with group, at_work(tmp_path, group, writes=FOR_EVER) as work:
        assert len({time_namespace(each) for each in group.voters}) == 3
        first = await work.contenders.held()
        for seconds in (DAY, -YEAR, 20 * YEAR, -60):
            await set_all(work, seconds)
            await work.progress()
        # One voter after the other is booted anew: its clock begins elsewhere.
        leader = await group.leader()
        for each, booted in ((others(group, leader)[0], 5.0), (leader, 3.0 * YEAR)):
            await group.kill(each)
            each.booted = booted
            await group.start(each)
            await group.leader(among=[each, *others(group, each)])
            await work.progress()
        await work.contenders.claimed(time.monotonic() + LONGER.interval(LONGER.ttl))
        assert work.contenders.entered == [first]
        assert work.contenders.lost == 0
        assert await work.faults() == []


async def test_a_holder_whose_machine_slept_knows_that_its_time_is_over(tmp_path: Path) -> None:
    group = CrashGroup(tmp_path, machine="state")
    async with group, at_work(tmp_path, group, writes=FOR_EVER) as work:
        contenders = work.contenders
        first = await contenders.held()
        contenders.order(first.holder.partition("/")[0], "sleep 3600")
        # It notices itself, long before the voters end it.
        await until_so(lambda: contenders.lost, BRISK_TIMES.ttl, "the end of its block")
        written = len(contenders.sink.events)
        await contenders.held(after=first.epoch)
        assert all(write.epoch > first.epoch for write in contenders.sink.events[written:])
        assert await work.faults() == []


async def test_a_leader_whose_clock_leaps_ahead_of_time_is_found_out(tmp_path: Path) -> None:
    """What leases rest on is that no clock does: the checker would notice."""
    group = CrashGroup(tmp_path, machine="state")
    async with group, at_work(tmp_path, group, clients=1, writes=FOR_EVER) as work:
        first = await work.contenders.held()
        leader = await group.leader()
        await group.ask(leader, "clock", b"sleep 3600")
        await work.contenders.held(after=first.epoch)
        await until_so(work.contenders.violations, 5, "two that were sure of the lease")
        # What they wrote was fenced all the same.
        assert violations(work.contenders.sink.events) == []
