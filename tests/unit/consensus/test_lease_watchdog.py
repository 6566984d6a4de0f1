"""The watchdog's thread, which does its work while the event loop does not."""

from __future__ import annotations

import asyncio
import threading
from random import Random

import pytest

from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.leases import (
    LeaseDuties,
    LeaseLost,
    Leases,
    LeaseTimes,
    ThreadWatchdog,
    holder_id,
)
from constellation_core.consensus.leases.lease import Tenure
from constellation_core.consensus.requests import Requests
from constellation_core.testing.consensus.group import SimulatedGroup, SimulatedHost
from constellation_core.testing.waiting import until_so

DEADLINE = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watchdog_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease-watchdog"]


def test_it_calls_once_when_the_time_is_over_and_then_ends() -> None:
    clock, dog, called = Clock(), ThreadWatchdog(), threading.Event()
    tenure = Tenure("dns", 1, 0.05, clock)
    call_off = dog.guard(tenure, called.set)
    assert not called.wait(0.1)
    clock.now = 1.0
    assert called.wait(DEADLINE)
    assert not call_off()
    assert tenure.reason() == "not renewed in time"
    for thread in watchdog_threads():
        thread.join(DEADLINE)
    assert not watchdog_threads()


def test_what_is_called_off_is_not_called_and_others_are() -> None:
    clock, dog, first, second = Clock(), ThreadWatchdog(), threading.Event(), threading.Event()
    call_off = dog.guard(Tenure("a", 1, 0.01, clock), first.set)
    dog.guard(Tenure("b", 2, 0.01, clock), second.set)
    assert call_off()
    assert not call_off()
    clock.now = 1.0
    assert second.wait(DEADLINE)
    assert not first.is_set()


def test_a_tenure_that_was_extended_is_left_alone() -> None:
    clock, dog, called = Clock(), ThreadWatchdog(), threading.Event()
    tenure = Tenure("dns", 1, 0.05, clock)
    call_off = dog.guard(tenure, called.set)
    tenure.extend(5.0)
    clock.now = 1.0
    assert not called.wait(0.2)
    assert call_off()
    assert tenure.left() == 4.0


def test_a_call_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    clock, dog, called = Clock(), ThreadWatchdog(), threading.Event()

    def fail() -> None:
        raise RuntimeError("no")

    dog.guard(Tenure("a", 1, 0.01, clock), fail)
    dog.guard(Tenure("b", 2, 0.02, clock), called.set)
    clock.now = 1.0
    assert called.wait(DEADLINE)
    assert "what was to be done about it failed" in caplog.text


def test_what_is_over_stays_over() -> None:
    clock = Clock()
    tenure = Tenure("dns", 1, 1.0, clock)
    clock.now = 1.0
    tenure.extend(100.0)
    assert tenure.left() == 0
    tenure.end("another reason")
    assert tenure.reason() == "not renewed in time"


async def test_a_holder_that_blocks_the_event_loop_is_told_on_another_thread() -> None:
    """With the machine's clock, a real event loop and a voter that works."""
    times = LeaseTimes(ttl=1.0, gather=0.05)
    clock = SystemBootClock()
    group = SimulatedGroup(Random(1), {"v1": SimulatedHost()})
    group.elect("v1")
    voter = group.voters["v1"]
    duties = LeaseDuties(voter, voter.state, clock, times)
    access = LocalAccess(voter, voter.state, duties.renew)
    leases = Leases(
        access,
        Requests(access, clock, Random(2)),
        clock,
        Random(3),
        ThreadWatchdog(),
        holder=holder_id("one", Random(4)),
        times=times,
    )
    told = threading.Event()
    running = asyncio.create_task(duties.run())

    async def block() -> None:
        async with leases.hold("dns", on_lost=told.set) as lease:
            # Longer than the ttl, and renewed all the while.
            started = clock.boottime()
            await until_so(lambda: clock.boottime() > started + 1.5, DEADLINE, "some renewals")
            lease.check()
            assert told.wait(DEADLINE), "nobody said so while the loop stood still"
            with pytest.raises(LeaseLost):
                lease.check()
            await asyncio.sleep(DEADLINE)

    with pytest.raises(LeaseLost):
        await block()
    running.cancel()
    await asyncio.wait([running])


def test_what_takes_its_time_holds_up_no_other() -> None:
    clock, dog, begun, go_on = Clock(), ThreadWatchdog(), threading.Event(), threading.Event()
    told = threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(DEADLINE)

    dog.guard(Tenure("a", 1, 0.01, clock), slow)
    clock.now = 1.0
    assert begun.wait(DEADLINE)
    dog.guard(Tenure("b", 2, 0.5, clock), told.set)
    assert told.wait(DEADLINE / 2)
    assert not go_on.is_set()
    go_on.set()
