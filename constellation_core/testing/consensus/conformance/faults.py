"""What happens when those who keep the store are out of reach, or stumble."""

from __future__ import annotations

import asyncio
from random import Random

from constellation_core.consensus import Unavailable, Unknown
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.leases import LeaseLost
from constellation_core.testing.consensus.conformance.fleet import (
    PATIENCE,
    Fleet,
    Scenario,
    background,
    fails,
    hold_for_ever,
    holder,
    now,
    renewed,
)
from constellation_core.testing.consensus.conformance.store import Follower
from constellation_core.testing.consensus.linearizability import check
from constellation_core.testing.consensus.store_runs import StoreClient, StoreRun
from constellation_core.testing.waiting import until, until_so


async def without_a_majority_nothing_is_promised(fleet: Fleet) -> None:
    """Reads and writes fail in time; what failed for certain is not there afterwards."""
    one, two = await fleet.join("one"), await fleet.join("two")
    await one.store.put("a", b"1", timeout=PATIENCE)
    await fleet.cut()
    begun = now()
    await fails(one.store.get("a", timeout=2), Unavailable)
    outcomes = {}
    for number in range(3):
        key = f"w/{number}"
        error = await fails(one.store.put(key, b"1", timeout=1), Unavailable, Unknown)
        outcomes[key] = error
    await fails(two.store.delete("a", timeout=1), Unavailable, Unknown)
    assert now() - begun < PATIENCE
    await fleet.heal()
    await two.store.put("after", b"1", timeout=PATIENCE)
    found = {entry.key for entry in await one.store.list("w/")}
    certain = {key for key, error in outcomes.items() if isinstance(error, Unavailable)}
    assert not found & certain


async def a_stale_read_needs_no_majority(fleet: Fleet) -> None:
    """It gives what somebody knew, and a watch that begins then gives it too."""
    one = await fleet.join("one")
    await one.store.put("a", b"1", timeout=PATIENCE)
    entry = await one.store.get("a", stale=True)
    assert entry is None or entry.value == b"1"

    async def known() -> bool:
        return await one.store.get("a", stale=True) is not None

    # Many times, for it may be another one that is asked.
    for _ in range(20):
        await until(known, PATIENCE, "the entry")
    await fleet.cut()
    follower = Follower("")
    async with background(follower.run(one)):
        await until_so(lambda: follower.told, PATIENCE, "a first value")
        entries = await one.store.list("", stale=True, timeout=PATIENCE)
        assert {each.key for each in entries} <= {"a"}
        await fleet.heal()
        await one.store.put("b", b"2", timeout=PATIENCE)
        await until_so(lambda: follower.view == {"a": b"1", "b": b"2"}, PATIENCE, "all of it")


async def a_watch_outlives_everything(fleet: Fleet) -> None:
    """It misses nothing that still stands when one can be told again."""
    one, two = await fleet.join("one"), await fleet.join("two")
    follower = Follower("w/")
    async with background(follower.run(one)):
        for number in range(5):
            await two.store.put(f"w/{number}", b"1", timeout=PATIENCE)
        await until_so(lambda: len(follower.view) == 5, PATIENCE, "five entries")
        await fleet.stumble()
        await two.store.put("w/0", b"2", timeout=PATIENCE)
        await two.store.delete("w/1", timeout=PATIENCE)
        await fleet.cut()
        await fleet.heal()
        await two.store.delete("w/2", timeout=PATIENCE)
        await two.store.put("w/5", b"2", timeout=PATIENCE)
        expected = {"w/0": b"2", "w/3": b"1", "w/4": b"1", "w/5": b"2"}
        await until_so(lambda: follower.view == expected, PATIENCE, "how things stand")
    revisions = [changes.revision for changes in follower.told]
    assert revisions == sorted(set(revisions))


async def who_cannot_renew_loses_the_lease_in_time(fleet: Fleet) -> None:
    """Without a majority the block ends by the holder's clock; afterwards it can be had again."""
    one, two = await fleet.join("one"), await fleet.join("two")
    lost_at: list[float] = []
    epoch = 0

    async def hold() -> None:
        nonlocal epoch
        async with one.leases.hold(
            "dns", ttl=fleet.ttl, on_lost=lambda: lost_at.append(1)
        ) as lease:
            epoch = lease.epoch
            try:
                await asyncio.sleep(1e6)
            finally:
                assert lease.remaining == 0

    async with background(hold()) as (holding,):
        await holder(two, "dns", "one")
        begun = now()
        await fleet.cut()
        error = await fails(holding, LeaseLost)
        assert (error.name, error.epoch) == ("dns", epoch)
        assert lost_at == [1]
        # It may have been renewed right before, but never later. (The rest is for a slow machine.)
        assert now() - begun < fleet.ttl + PATIENCE / 4
    await fleet.heal()
    async with asyncio.timeout(PATIENCE), one.leases.hold("dns", ttl=fleet.ttl) as lease:
        assert lease.epoch > epoch


async def a_lease_outlives_the_loss_of_a_leader(fleet: Fleet) -> None:
    """Whoever leads then goes on renewing it, with the same epoch."""
    one, two = await fleet.join("one"), await fleet.join("two")
    ttl = max(12.0, fleet.ttl)
    async with one.leases.hold("dns", ttl=ttl) as lease:
        epoch = lease.epoch
        async with background(hold_for_ever(two, "dns", ttl)) as (waiting,):
            await fleet.stumble()
            await renewed(lease)
            assert lease.epoch == epoch
            assert not waiting.done()


async def what_clients_see_is_linearizable_while_leaders_stumble(fleet: Fleet) -> None:
    """Compare-and-set, puts, deletes and reads of several agents, judged by a checker."""
    random, run, ending = Random(1), StoreRun(), asyncio.Event()
    agents = {node: await fleet.join(node) for node in ("one", "two", "three")}
    await agents["one"].store.put("warm", b"", timeout=PATIENCE)
    clients = [
        StoreClient(
            node,
            agent.store,
            SystemBootClock(),
            random,
            run,
            pause=0.1,
            timeouts=(0.2, 1.0, 20.0),
            keys="uvwxyz",
        )
        for node, agent in agents.items()
    ]
    async with asyncio.timeout(4 * PATIENCE), asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.work(ending=ending))
        for _ in range(3):
            await asyncio.sleep(0.5)
            await fleet.stumble()
        ending.set()
    assert len([call for call in run.history if call.observed is not None]) > 20
    assert check(run.history) is None


FAULT_SCENARIOS: tuple[Scenario, ...] = (
    without_a_majority_nothing_is_promised,
    a_stale_read_needs_no_majority,
    a_watch_outlives_everything,
    who_cannot_renew_loses_the_lease_in_time,
    a_lease_outlives_the_loss_of_a_leader,
    what_clients_see_is_linearizable_while_leaders_stumble,
)
