"""The store and leases on the real engine: threads, sockets and disks of three voters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from constellation_core.consensus.leases import Leases, LeaseTimes
from constellation_core.consensus.store import CompareFailed
from constellation_core.testing.consensus.loopback import LoopbackBackend, LoopbackVoters
from constellation_core.testing.waiting import until, until_so

DEADLINE = 60.0
TIMES = LeaseTimes(ttl=10.0, gather=0.05)


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[LoopbackVoters]:
    made = LoopbackVoters(tmp_path, TIMES)
    await made.start_all()
    yield made
    await made.stop_all()


async def test_store_and_leases_live_through_the_loss_of_the_leader(group: LoopbackVoters) -> None:
    leader = await group.leader()
    others = [voter_id for voter_id in group.running if voter_id != leader]
    one, two = (LoopbackBackend(group, each, TIMES, first=each) for each in others)
    store, leases, other, waiting = one.store, one.leases, two.store, two.leases
    revision = await store.put("a", b"1", timeout=DEADLINE)
    with pytest.raises(CompareFailed):
        await other.compare_and_set("a", b"x", revision + 1, timeout=DEADLINE)
    seen: list[bytes] = []

    async def watch() -> None:
        async for changes in other.watch("a"):
            seen.extend(entry.value for entry in changes.entries)

    watching = asyncio.create_task(watch())
    async with leases.hold("dns") as lease:
        first = lease.epoch
        entering = asyncio.create_task(enter(waiting))
        await group.stop(leader)
        # More than once around the snapshots, under the new leader.
        for number in range(2, 60):
            revision = await other.compare_and_set(
                "a", str(number).encode(), revision, timeout=DEADLINE
            )
        left = lease.remaining
        await until_so(lambda: lease.remaining > left, DEADLINE, "a renewal by the new leader")
        assert not entering.done()
    assert await entering > first
    await group.start(leader)
    await until_so(lambda: seen[-1:] == [b"59"], DEADLINE, "the watcher")
    entry = await store.get("a", timeout=DEADLINE)
    assert entry is not None
    assert (entry.value, entry.revision) == (b"59", revision)
    watching.cancel()
    await asyncio.wait([watching])

    async def same() -> bool:
        states = [await voter.engine.read(voter.state.snapshot) for voter in group.running.values()]
        return states.count(states[0]) == len(states)

    await until(same, DEADLINE, "three equal states")


async def enter(leases: Leases) -> int:
    async with leases.hold("dns") as lease:
        return lease.epoch
