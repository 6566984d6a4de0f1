"""Leases between agents in virtual time: who gets in, who is thrown out, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.engine.commands import MAX_OPERATION
from constellation_core.consensus.interface import NotLeader, Unavailable
from constellation_core.consensus.leases import (
    Lease,
    LeaseLost,
    Leases,
    LeaseTimes,
    LeaseView,
    holder_id,
)
from constellation_core.consensus.leases.expiry import ExpiryTimers
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Held
from constellation_core.consensus.state.limits import MAX_LEASES
from constellation_core.consensus.state.operations import (
    Expire,
    Renew,
    decode_header,
    decode_operation,
)
from constellation_core.testing.consensus.clients import HostWatchdog
from constellation_core.testing.consensus.group import SimulatedHost
from constellation_core.testing.consensus.world import World
from constellation_core.testing.virtual_loop import run_virtual
from constellation_core.testing.waiting import until_so

TIMES = LeaseTimes()
ENTRY = 64
"""Bytes that the engine's journal takes for an entry besides the operation; about 30, in truth."""


class Fleet:
    """Agents with leases, on voters that work."""

    def __init__(self, times: LeaseTimes = TIMES) -> None:
        self.times = times
        self.world = World(1, times)
        self.world.group.conditions.lag = (0.0, 0.01)
        self.hosts: dict[str, SimulatedHost] = {}

    def agent(self, name: str) -> Leases:
        host = self.hosts[name] = SimulatedHost(boottime=1000.0 * len(self.hosts))
        access = self.world.network.client(name, host)
        random = self.world.random
        return Leases(
            access,
            Requests(access, host, random),
            host,
            random,
            HostWatchdog(host),
            holder=holder_id(name, random),
            times=self.times,
        )

    def crash(self, name: str) -> None:
        self.world.network.forget(name)
        self.hosts[name].pause()

    def cut(self, *names: str) -> None:
        self.world.network.conditions.cut = frozenset(names)


Scenario = Callable[[Fleet], Coroutine[Any, Any, None]]


def run(scenario: Scenario, times: LeaseTimes = TIMES) -> None:
    async def main() -> None:
        fleet = Fleet(times)
        async with fleet.world.running():
            # By then every voter knows who leads.
            await asyncio.sleep(5)
            await scenario(fleet)

    run_virtual(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def hold_for_ever(leases: Leases, name: str = "dns") -> asyncio.Task[None]:
    async def body() -> None:
        async with leases.hold(name):
            await asyncio.sleep(1e9)

    return asyncio.create_task(body())


async def held(leases: Leases, name: str = "dns") -> LeaseView:
    async for view in leases.watch(name):
        if view is not None:
            # What is seen may be ahead of the answer that the holder waits for.
            await asyncio.sleep(0.1)
            return view
    raise AssertionError


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_a_block_is_entered_when_the_one_before_is_over_and_with_a_higher_epoch() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        times: list[float] = []
        epochs: list[int] = []

        async def second() -> None:
            async with two.hold("dns") as lease:
                times.append(now())
                epochs.append(lease.epoch)

        async with one.hold("dns") as lease:
            waiting = asyncio.create_task(second())
            await asyncio.sleep(200)
            lease.check()
            assert lease.name == "dns"
            assert not times
            epochs.append(lease.epoch)
        left = now()
        await waiting
        assert times[0] - left < 0.2
        assert epochs[1] > epochs[0]

    run(scenario)


def test_a_lease_outlives_elections_and_bad_links() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        fleet.world.network.conditions.loss = 0.2
        async with leases.hold("dns") as lease:
            for voter in ("v2", "v3", "v1") * 7:
                await asyncio.sleep(30)
                fleet.world.group.elect(voter)
                lease.check()

    run(scenario)


def test_after_a_crash_another_gets_it_within_the_ttl_and_three_seconds() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        first = hold_for_ever(one)
        await held(two)
        await asyncio.sleep(100)
        fleet.crash("one")
        crashed = now()
        async with two.hold("dns"):
            assert TIMES.trusted(TIMES.ttl) - 15 < now() - crashed < TIMES.ttl + 3
        fleet.hosts["one"].resume()
        await ended(first)

    run(scenario)


@pytest.mark.parametrize("elected", [("v2",), ("v2", "v1"), ("v3", "v2", "v1", "v3")])
def test_elections_after_a_crash_make_nobody_wait_longer(elected: tuple[str, ...]) -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        first = hold_for_ever(one)
        await held(two)
        await asyncio.sleep(100)
        fleet.crash("one")
        crashed = now()
        entering = asyncio.create_task(enter(two))
        for voter in elected:
            await asyncio.sleep(8)
            fleet.world.group.elect(voter)
        await entering
        assert TIMES.trusted(TIMES.ttl) - 15 < now() - crashed < TIMES.ttl + 3
        fleet.hosts["one"].resume()
        await ended(first)

    run(scenario)


def test_a_new_leader_that_lagged_does_not_end_what_was_renewed_meanwhile() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        async with leases.hold("dns") as lease:
            await asyncio.sleep(10)
            # Longer than it takes to end a lease: what was last seen of it is over by then.
            fleet.world.group.conditions.lag = (300.0, 300.0)
            for voter in ("v2", "v3", "v1") * 3:
                await asyncio.sleep(100)
                fleet.world.group.elect(voter)
                lease.check()

    run(scenario)


async def enter(leases: Leases) -> None:
    async with leases.hold("dns"):
        pass


def test_who_is_cut_off_is_out_before_another_is_in() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        out: list[float] = []
        lost: list[LeaseLost] = []
        told: list[float] = []

        async def first() -> None:
            try:
                async with one.hold("dns", on_lost=lambda: told.append(now())) as lease:
                    try:
                        await asyncio.sleep(1e9)
                    finally:
                        out.append(now())
                        with pytest.raises(LeaseLost):
                            lease.check()
            except LeaseLost as error:
                lost.append(error)
            # The task itself goes on as if nobody had ever cancelled it.
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            await asyncio.sleep(1)

        task = asyncio.create_task(first())
        view = await held(two)
        fleet.cut("one")
        async with two.hold("dns") as lease:
            assert out[0] < now() - 4
            assert lease.epoch > view.epoch
        await task
        assert lost[0].name == "dns"
        assert lost[0].epoch == view.epoch
        assert "not renewed" in lost[0].reason
        assert told == out

    run(scenario)


def test_trust_counts_from_before_the_request_was_sent() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        # Opening the session takes a round trip too, and counts: one patience for both.
        fleet.world.network.conditions.latency = (0.4, 0.4)
        async with leases.hold("dns") as lease:
            assert lease.remaining < TIMES.trusted(TIMES.ttl) - 0.8
            low = lease.remaining
            while lease.remaining <= low:
                low = lease.remaining
                await asyncio.sleep(0.01)
            # Renewed a moment ago: there and back, and the leader gathered meanwhile.
            assert lease.remaining < TIMES.trusted(TIMES.ttl) - 0.8 - TIMES.gather
            assert lease.remaining > TIMES.trusted(TIMES.ttl) - 2

    run(scenario)


@pytest.mark.parametrize("waited", [1.0, 2.5, 4.0])
def test_a_grant_that_was_long_in_coming_is_renewed_all_the_sooner(waited: float) -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        fleet.cut("one")
        asked = now()

        async def heal() -> None:
            await asyncio.sleep(waited)
            fleet.cut()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(heal())
            async with leases.hold("dns", ttl=6) as lease:
                assert now() - asked >= waited
                await asyncio.sleep(60)
                lease.check()

    run(scenario)


def test_a_machine_that_slept_finds_its_lease_lost() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")

        async def body() -> None:
            async with leases.hold("dns") as lease:
                lease.check()
                fleet.hosts["one"]._offset += 60
                with pytest.raises(LeaseLost):
                    lease.check()
                assert lease.remaining == 0
                # What comes in now is too late to change that.
                await asyncio.sleep(1e9)

        with pytest.raises(LeaseLost, match="not renewed"):
            await body()

    run(scenario)


def test_a_body_that_ends_without_noticing_the_loss_is_told() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        with pytest.raises(LeaseLost):
            async with leases.hold("dns"):
                fleet.hosts["one"]._offset += 60
        with pytest.raises(LeaseLost):
            async with leases.hold("dns"):
                await leases.close()
        await asyncio.sleep(0)

    run(scenario)


def test_a_check_can_ask_for_time() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        async with leases.hold("dns") as lease:
            lease.check(30)
            with pytest.raises(LeaseLost, match="s more only"):
                lease.check(60)
            lease.check()

    run(scenario)


def test_a_lease_is_dead_after_its_block_also_while_another_block_holds_it() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        async with leases.hold("dns") as old:
            assert "held" in repr(old)
        async with leases.hold("dns"):
            for use in (old.check, lambda: old.epoch):
                with pytest.raises(LeaseLost, match="block is over"):
                    use()
            assert old.remaining == 0
            assert "over" in repr(old)

    run(scenario)


def test_a_hold_is_used_once_and_by_one_task() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        hold = leases.hold("dns")
        async with hold:
            other = asyncio.create_task(hold.__aexit__(None, None, None))
            await asyncio.wait([other])
            assert isinstance(other.exception(), RuntimeError)
        with pytest.raises(RuntimeError, match="another hold"):
            async with hold:
                pytest.fail("entered twice")

    run(scenario)


def test_names_and_ttls_are_checked_at_once() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        for name, ttl in (("", 45.0), ("n" * 257, 45.0), ("dns", 1.0), ("dns", 3601.0)):
            with pytest.raises(ValueError, match="has"):
                leases.hold(name, ttl=ttl)

    run(scenario)


def test_a_failure_of_the_body_passes_and_releases() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        with pytest.raises(KeyError):
            async with one.hold("dns"):
                raise KeyError
        before = now()
        async with two.hold("dns"):
            assert now() - before < 0.2

    run(scenario)


def test_who_cancels_the_task_from_outside_is_obeyed_and_the_lease_released() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        task = hold_for_ever(one)
        await held(two)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        before = now()
        async with two.hold("dns"):
            assert now() - before < 0.2

    run(scenario)


def test_a_cancellation_from_outside_is_not_mistaken_for_a_loss() -> None:
    async def scenario(fleet: Fleet) -> None:
        one = fleet.agent("one")
        task: asyncio.Task[None] | None = None

        def cancel_too() -> None:
            assert task is not None
            task.cancel()

        async def body() -> None:
            async with one.hold("dns", on_lost=cancel_too):
                await asyncio.sleep(1e9)

        task = asyncio.create_task(body())
        await held(one)
        fleet.cut("one")
        await asyncio.wait([task])
        assert task.cancelled()

    run(scenario)


def test_a_timeout_around_a_block_that_waits_leaves_nothing_behind() -> None:
    """The request is under way when the waiting ends; what it is granted is given back."""

    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        async with one.hold("warm-up"):
            pass
        fleet.world.network.conditions.latency = (0.5, 0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.75), one.hold("dns"):
                pytest.fail("entered before the answer came")
        assert any(lease.name == "dns" for lease in fleet.world.group.voters["v1"].state.leases())
        before = now()
        async with two.hold("dns"):
            assert now() - before < 10
        async with one.hold("dns"):
            pass

    run(scenario)


def test_a_request_that_was_given_up_does_not_take_the_lease_from_the_next_block() -> None:
    async def scenario(fleet: Fleet) -> None:
        one = fleet.agent("one")
        async with one.hold("warm-up"):
            pass
        fleet.cut("one")
        given_up = hold_for_ever(one)
        await asyncio.sleep(0.5)
        await ended(given_up)
        fleet.cut()
        # The first request is tried again, and must not be granted while the second one is used.
        async with one.hold("dns") as lease:
            await asyncio.sleep(120)
            lease.check()

    run(scenario)


def test_who_waits_does_not_miss_an_end_that_no_voter_remembers() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        task = hold_for_ever(one)
        await held(two)
        entered: list[float] = []

        async def enter() -> None:
            async with two.hold("dns"):
                entered.append(now())

        waiting = asyncio.create_task(enter())
        await asyncio.sleep(5)
        fleet.cut("two")
        await ended(task)
        await asyncio.sleep(1)
        for voter in fleet.world.group.voters.values():
            voter.state.restore(voter.state.snapshot())
        fleet.cut()
        await asyncio.sleep(30)
        assert entered
        await waiting

    run(scenario)


def test_blocks_of_one_agent_take_turns() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        inside = 0
        epochs: list[int] = []

        async def body() -> None:
            nonlocal inside
            async with leases.hold("dns") as lease:
                inside += 1
                assert inside == 1
                epochs.append(lease.epoch)
                await asyncio.sleep(20)
                lease.check()
                inside -= 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(body())
        assert epochs == sorted(set(epochs))
        assert len(epochs) == 5

    run(scenario)


def test_what_cannot_fence_waits_out_unless_the_holder_before_was_done() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        before = now()
        async with one.hold("vip", wait_out=True) as lease:
            # Nobody knows whether there was somebody before.
            assert TIMES.ttl <= now() - before < TIMES.ttl + 1
            lease.check(20)
        before = now()
        async with two.hold("vip", wait_out=True):
            assert now() - before < 0.3
        crashed = hold_for_ever(one, "vip")
        await held(two, "vip")
        fleet.crash("one")
        before = now()
        async with two.hold("vip", wait_out=True):
            assert now() - before > TIMES.trusted(TIMES.ttl) + TIMES.ttl - 1
        fleet.hosts["one"].resume()
        await ended(crashed)

    run(scenario)


def test_who_gives_up_while_waiting_out_does_not_spare_the_next_one_the_wait() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")

        async def enter(leases: Leases) -> float:
            async with leases.hold("vip", wait_out=True):
                return now()

        giving_up = asyncio.create_task(enter(one))
        await held(two, "vip")
        await asyncio.sleep(TIMES.ttl / 2)
        giving_up.cancel()
        await asyncio.wait([giving_up])
        # What was held before "one" may still do something, for as long as it always may.
        gave_up = now()
        assert await enter(two) - gave_up > TIMES.ttl
        # Somebody who does not wait out releases what was given to it in vain.
        meddling = hold_for_ever(one, "dns")
        await ended(meddling)
        before = now()
        async with two.hold("dns"):
            assert now() - before < 0.5

    run(scenario)


@pytest.mark.parametrize("wait_out", [False, True])
def test_what_is_granted_while_the_agent_stops_is_given_back(wait_out: bool) -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        voter = fleet.world.group.voters["v1"].state
        entered: list[float] = []

        async def enter() -> None:
            async with one.hold("dns", wait_out=wait_out):
                entered.append(now())

        fleet.world.network.conditions.latency = (0.2, 0.2)
        entering = asyncio.create_task(enter())
        await until_so(voter.leases, 10, "the grant")
        assert not entering.done()
        before = now()
        await one.close()
        # By then nothing of it is under way any more.
        assert entering.done()
        assert isinstance(entering.exception(), Unavailable)
        assert now() - before < 2
        assert not entered
        if not wait_out:
            assert not voter.leases()
        async with two.hold("dns", wait_out=wait_out):
            assert (now() - before > TIMES.ttl) == wait_out

    run(scenario)


def test_an_agent_that_stops_while_it_waits_out_leaves_the_lease_to_expire() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")

        async def enter() -> None:
            async with one.hold("vip", wait_out=True):
                raise AssertionError("entered")

        entering = asyncio.create_task(enter())
        await held(two, "vip")
        await asyncio.sleep(5)
        before = now()
        await one.close()
        assert now() - before < 1
        with pytest.raises(Unavailable):
            await entering
        async with two.hold("vip", wait_out=True):
            assert now() - before > 2 * TIMES.ttl - 10

    run(scenario)


def test_at_the_end_blocks_are_ended_and_leases_released() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        tasks = [hold_for_ever(one, name) for name in ("a", "b")]
        await held(two, "a")
        await held(two, "b")
        await one.close()
        for task in tasks:
            assert isinstance(task.exception(), LeaseLost)
            assert "stops" in str(task.exception())
        before = now()
        async with two.hold("a"), two.hold("b"):
            assert now() - before < 0.2
        with pytest.raises(Unavailable):
            async with one.hold("a"):
                pytest.fail("entered after the end")

    run(scenario)


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
def test_what_a_loss_is_answered_with_may_fail_and_harms_no_other_lease(
    error: type[BaseException],
) -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        called: list[str] = []

        async def body(name: str) -> None:
            def fail() -> None:
                called.append(name)
                raise error("on purpose")

            async with one.hold(name, on_lost=fail):
                await asyncio.sleep(1e9)

        tasks = [asyncio.create_task(body(name)) for name in ("dns", "vip")]
        await held(two, "dns")
        await held(two, "vip")
        await one.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in results] == [LeaseLost, LeaseLost]
        assert sorted(called) == ["dns", "vip"]
        async with two.hold("dns"), two.hold("vip"):
            pass

    run(scenario)


def test_a_body_that_does_not_end_keeps_its_lease_until_it_expires() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two = fleet.agent("one"), fleet.agent("two")
        go_on = asyncio.Event()

        async def stubborn() -> None:
            async with one.hold("dns"):
                while not go_on.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await go_on.wait()

        task = asyncio.create_task(stubborn())
        await held(two)
        before = now()
        await one.close()
        async with two.hold("dns"):
            assert now() - before > TIMES.trusted(TIMES.ttl) - 1
        go_on.set()
        await asyncio.wait([task])
        assert isinstance(task.exception(), LeaseLost)

    run(scenario)


def test_followers_see_who_holds_it() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two, three = (fleet.agent(name) for name in ("one", "two", "three"))
        seen: list[str | None] = []

        async def watch() -> None:
            async for view in three.watch("dns"):
                seen.append(view.node if view else None)  # noqa: PERF401 - it never ends

        watching = asyncio.create_task(watch())
        # Its name begins alike, but it is another lease.
        other = hold_for_ever(two, "dns-writer")
        await asyncio.sleep(1)
        for leases in (one, two):
            async with leases.hold("dns"):
                await asyncio.sleep(50)
            await asyncio.sleep(1)
        assert seen == [None, "one", None, "two", None]
        await ended(watching, other)

    run(scenario)


def test_a_task_that_holds_a_lease_does_not_wait_for_itself() -> None:
    async def scenario(fleet: Fleet) -> None:
        leases = fleet.agent("one")
        async with leases.hold("dns") as outer:
            with pytest.raises(RuntimeError, match="holds lease dns already"):
                async with leases.hold("dns"):
                    pytest.fail("held twice")
            async with leases.hold("rollout"):
                outer.check()
        async with leases.hold("dns"):
            pass

    run(scenario)


def test_who_holds_which_lease_is_seen_for_all_of_them_together() -> None:
    async def scenario(fleet: Fleet) -> None:
        one, two, three = (fleet.agent(name) for name in ("one", "two", "three"))
        seen: list[dict[str, str]] = []

        async def watch() -> None:
            async for views in three.watch_all():
                seen.append({name: view.node for name, view in views.items()})  # noqa: PERF401

        watching = asyncio.create_task(watch())
        await asyncio.sleep(1)
        async with one.hold("dns"):
            await asyncio.sleep(50)
            async with two.hold("rollout"):
                await asyncio.sleep(50)
        await asyncio.sleep(1)
        both = {"dns": "one", "rollout": "two"}
        assert seen == [{}, {"dns": "one"}, both, {"dns": "one"}, {}]
        await ended(watching)

    run(scenario)


def test_renewals_of_many_share_entries_and_a_day_of_them_is_below_a_megabyte() -> None:
    async def scenario(fleet: Fleet) -> None:
        agents = [fleet.agent(f"agent-{number}") for number in range(5)]
        holding = [
            hold_for_ever(agents[number % 5], f"lease-{number}-of-some-plugin")
            for number in range(10)
        ]
        await asyncio.sleep(100)
        begun = len(fleet.world.group.log)
        hours = 2
        await asyncio.sleep(hours * 3600)
        entries = [entry for entry in fleet.world.group.log[begun:] if entry is not None]
        operations = [decode_operation(decode_header(entry)) for entry in entries]
        assert all(isinstance(each, Renew) and len(each.epochs) == 10 for each in operations)
        assert len(operations) == pytest.approx(hours * 240, rel=0.02)
        day = 24 / hours * sum(len(entry) + ENTRY for entry in entries)
        assert day < 600_000, day
        await ended(*holding)

    run(scenario)


def test_only_the_leader_renews() -> None:
    async def scenario(fleet: Fleet) -> None:
        await asyncio.sleep(10)
        servers = fleet.world.network.servers
        with pytest.raises(NotLeader) as error:
            await servers["v2"].duties.renew((1,), 1.0)
        assert error.value.hint is not None
        renewal = await servers["v1"].duties.renew((1,), 1.0)
        assert renewal.lost == (1,)
        assert 0 < renewal.next_in <= 15.5

    run(scenario)


def test_no_more_is_renewed_at_a_time_than_can_be_held() -> None:
    """However much somebody asks for, it becomes an entry that the log takes."""

    async def scenario(fleet: Fleet) -> None:
        duties = fleet.world.network.servers["v1"].duties
        # The differences are as large as they can be.
        many = tuple(number << 50 for number in range(1, MAX_LEASES + 1))
        renewing = asyncio.create_task(duties.renew(many, 5.0))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await duties.renew((1,), 5.0)
        assert (await duties.renew(many[:9], 5.0)).lost == many[:9]
        assert (await renewing).lost == many
        entry = fleet.world.group.log[-1]
        assert entry is not None
        assert len(entry) < MAX_OPERATION

    run(scenario)


def test_nothing_is_written_when_nothing_is_held() -> None:
    async def scenario(fleet: Fleet) -> None:
        await asyncio.sleep(10)
        length = len(fleet.world.group.log)
        await asyncio.sleep(7200)
        assert len(fleet.world.group.log) == length

    run(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl": 0.5},
        {"margin": 0.05},
        {"margin": 0.5},
        {"drift": -0.1},
        {"grace": -1.0},
        {"gather": -1.0},
        {"gather": 10.0},
    ],
)
def test_times_that_promise_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"ttl|margin|wait"):
        LeaseTimes(**wrong)


@given(st.floats(3, 3600))
def test_the_leader_waits_longer_than_holders_trust_whatever_clocks_do(ttl: float) -> None:
    slow, fast = 0.99, 1.01
    assert TIMES.trusted(ttl) / slow < TIMES.patience(ttl) / fast


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=30))
def test_what_is_renewed_is_not_due(steps: list[tuple[float, bool]]) -> None:
    timers, clock, last, lease = ExpiryTimers(TIMES), 0.0, 0.0, Held("dns", "n", 5, 45_000, 0, 1)
    timers.observe([lease], clock)
    for seconds, renewed in steps:
        clock += seconds
        if renewed:
            lease = Held("dns", "n", 5, 45_000, lease.renewals + 1, 1)
            last = clock
        timers.observe([lease], clock)
        due = timers.due(clock)
        assert bool(due) == (clock >= last + TIMES.patience(45))
        assert all(each == Expire(5, lease.renewals) for each in due)
        assert timers.next_due() == last + TIMES.patience(45)
    timers.observe([], clock)
    assert timers.next_due() is None


def test_a_lease_says_nothing_of_its_insides() -> None:
    assert [name for name in dir(Lease) if not name.startswith("_")] == [
        "check",
        "epoch",
        "name",
        "remaining",
    ]
