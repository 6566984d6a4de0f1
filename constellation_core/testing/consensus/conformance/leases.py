"""Leases, as long as nothing is broken but their holders."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from constellation_core.consensus import Unavailable
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.leases import Lease, LeaseLost
from constellation_core.consensus.state.limits import MAX_TTL
from constellation_core.testing.consensus.conformance.fleet import (
    PATIENCE,
    Fleet,
    Scenario,
    background,
    fails,
    hold_for_ever,
    holder,
    now,
    raises,
    wait_for,
)
from constellation_core.testing.waiting import until_so


async def one_holds_it_at_a_time(fleet: Fleet) -> None:
    """Among agents and among the tasks of one; epochs grow from holder to holder."""
    agents = [await fleet.join(node) for node in ("one", "two", "three")]
    inside: set[int] = set()
    epochs: list[int] = []

    async def work(number: int) -> None:
        async with agents[number // 2].leases.hold("dns", ttl=fleet.ttl) as lease:
            assert not inside
            inside.add(number)
            epochs.append(lease.epoch)
            await asyncio.sleep(0.01)
            lease.check()
            inside.discard(number)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        for number in range(6):
            tasks.create_task(work(number))
    assert len(epochs) == 6
    assert epochs == sorted(set(epochs))


async def epochs_grow_over_all_leases(fleet: Fleet) -> None:
    """What was given later is higher, whatever it is for and whatever else was written."""
    one, two = await fleet.join("one"), await fleet.join("two")
    epochs = []
    for number in range(6):
        backend = (one, two)[number % 2]
        async with backend.leases.hold(f"lease-{number % 3}", ttl=fleet.ttl) as lease:
            epochs.append(lease.epoch)
        await backend.store.put("between", b"", timeout=PATIENCE)
    assert epochs == sorted(set(epochs))


async def a_lease_is_renewed_as_long_as_it_is_held(fleet: Fleet) -> None:
    """Several times longer than it lives by itself, and nobody else gets in."""
    one, two = await fleet.join("one"), await fleet.join("two")
    async with one.leases.hold("dns", ttl=fleet.ttl) as lease:
        epoch = lease.epoch
        async with background(hold_for_ever(two, "dns", fleet.ttl)) as (waiting,):
            end = now() + 3 * fleet.ttl
            while now() < end:
                await asyncio.sleep(fleet.ttl / 10)
                assert lease.epoch == epoch
                assert 0 < lease.remaining < fleet.ttl
                assert not waiting.done()
            view = await holder(two, "dns", "one")
            assert view is not None
            assert view.epoch == epoch


async def a_released_lease_is_free_at_once(fleet: Fleet) -> None:
    """Not only when it would have expired: at the end of the block, and when its body fails."""
    one, two = await fleet.join("one"), await fleet.join("two")

    async def enter() -> float:
        async with two.leases.hold("dns", ttl=PATIENCE):
            return now()

    for error in (None, ZeroDivisionError()):
        with contextlib.suppress(ZeroDivisionError):
            async with one.leases.hold("dns", ttl=PATIENCE):
                entering = asyncio.create_task(enter())
                await asyncio.sleep(0.5)
                assert not entering.done()
                left = now()
                if error is not None:
                    raise error
        assert await entering - left < PATIENCE / 4


async def followers_see_who_holds_what(fleet: Fleet) -> None:
    """The node, the epoch and the ttl; and nobody, at first and after the release."""
    one, two = await fleet.join("one"), await fleet.join("two")
    assert await wait_for(two.leases.watch("dns"), lambda _: True) is None
    assert not await wait_for(two.leases.watch_all(), lambda _: True)
    async with (
        one.leases.hold("dns", ttl=fleet.ttl) as first,
        two.leases.hold("vip", ttl=PATIENCE),
    ):
        view = await holder(two, "dns", "one")
        assert view is not None
        assert (view.epoch, view.ttl) == (first.epoch, fleet.ttl)
        held = await wait_for(one.leases.watch_all(), lambda held: len(held) == 2)
        assert {name: view.node for name, view in held.items()} == {"dns": "one", "vip": "two"}
        assert held["dns"] == view
        changes = one.leases.watch_all()
        await wait_for(changes, lambda held: len(held) == 2)
    await wait_for(changes, lambda held: not held)
    await holder(two, "dns", None)


async def the_lease_of_a_crashed_agent_passes_on(fleet: Fleet) -> None:
    """But not before the agent has stopped to trust it, by any clock."""
    one, two = await fleet.join("one"), await fleet.join("two")
    async with background(hold_for_ever(one, "dns", fleet.ttl)):
        await holder(two, "dns", "one")
        crashed_at = now()
        await fleet.crash("one")
        view = await holder(two, "dns", "one")
        assert view is not None
        async with two.leases.hold("dns", ttl=fleet.ttl) as lease:
            assert lease.epoch > view.epoch
            # It was renewed a third of the ttl before the crash, at the earliest.
            assert now() - crashed_at > 0.5 * fleet.ttl
            assert now() - crashed_at < fleet.ttl + PATIENCE / 2


async def an_agent_that_was_restarted_is_another(fleet: Fleet) -> None:
    """It waits for what it held before its crash, and gets it with a higher epoch."""
    one = await fleet.join("one")
    async with background(hold_for_ever(one, "dns", fleet.ttl)):
        before = await holder(one, "dns", "one")
        await fleet.crash("one")
        again = await fleet.join("one")
        async with asyncio.timeout(PATIENCE):
            async with again.leases.hold("dns", ttl=fleet.ttl) as lease:
                assert before is not None
                assert lease.epoch > before.epoch


async def who_waits_in_vain_does_not_get_it_later(fleet: Fleet) -> None:
    """An agent that gave up waiting holds nothing, whenever it gave up."""
    one, two = await fleet.join("one"), await fleet.join("two")
    for number in range(8):
        async with background(hold_for_ever(one, "dns", PATIENCE)):
            # Before it is asked for, while it is, and when it is held.
            await asyncio.sleep(number * 0.004)
        async with asyncio.timeout(PATIENCE / 2), two.leases.hold("dns", ttl=PATIENCE) as lease:
            lease.check()


async def what_cannot_fence_waits_out(fleet: Fleet) -> None:
    """A ttl, unless whoever held it before has released it."""
    one, two = await fleet.join("one"), await fleet.join("two")

    async def enter(backend: ConsensusBackend) -> float:
        begun = now()
        async with backend.leases.hold("vip", ttl=fleet.ttl, wait_out=True) as lease:
            lease.check()
            return now() - begun

    # Nobody knows whether there was somebody before.
    assert await enter(one) >= fleet.ttl
    assert await enter(two) < fleet.ttl
    async with background(hold_for_ever(one, "vip", fleet.ttl)):
        await holder(two, "vip", "one")
        await fleet.crash("one")
        assert await enter(two) > 1.5 * fleet.ttl


async def a_closing_agent_releases_what_it_holds(fleet: Fleet) -> None:
    """Its blocks end first, and it gets nothing afterwards."""
    one, two = await fleet.join("one"), await fleet.join("two")
    inside: set[str] = set()

    async def hold(name: str) -> None:
        async with one.leases.hold(name, ttl=PATIENCE):
            inside.add(name)
            try:
                await asyncio.sleep(1e6)
            finally:
                inside.remove(name)

    async with background(hold("a"), hold("b")) as tasks:
        await until_so(lambda: len(inside) == 2, PATIENCE, "both")
        await one.close()
        assert not inside
        for task in tasks:
            await fails(task, LeaseLost)
        async with asyncio.timeout(PATIENCE / 2):
            for name in ("a", "b"):
                async with two.leases.hold(name, ttl=PATIENCE) as lease:
                    lease.check()
    async with asyncio.timeout(PATIENCE):
        await fails(hold_for_ever(one, "a", fleet.ttl), Unavailable)


async def a_lease_is_dead_after_its_block(fleet: Fleet) -> None:
    """Whoever kept it cannot use it, and a hold is entered once."""
    one = await fleet.join("one")
    hold = one.leases.hold("dns", ttl=fleet.ttl)
    async with hold as lease:
        kept: Lease = lease
    assert kept.remaining == 0
    assert raises(kept.check, LeaseLost).name == "dns"
    await fails(hold.__aenter__(), RuntimeError)


async def what_cannot_be_is_refused(fleet: Fleet) -> None:
    """Names and ttls, when they are given."""
    leases = (await fleet.join("one")).leases
    for name, ttl in (("", 10.0), ("ü" * 129, 10.0), ("a", 0.5), ("a", MAX_TTL / 1000 + 1)):
        raises(partial(leases.hold, name, ttl=ttl), ValueError)
    async with leases.hold("ü" * 128, ttl=fleet.ttl) as lease:
        lease.check()


LEASE_SCENARIOS: tuple[Scenario, ...] = (
    one_holds_it_at_a_time,
    epochs_grow_over_all_leases,
    a_lease_is_renewed_as_long_as_it_is_held,
    a_released_lease_is_free_at_once,
    followers_see_who_holds_what,
    the_lease_of_a_crashed_agent_passes_on,
    an_agent_that_was_restarted_is_another,
    who_waits_in_vain_does_not_get_it_later,
    what_cannot_fence_waits_out,
    a_closing_agent_releases_what_it_holds,
    a_lease_is_dead_after_its_block,
    what_cannot_be_is_refused,
)
