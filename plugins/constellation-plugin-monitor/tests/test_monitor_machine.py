"""Verdicts from results: rise, fall, start period, restarts."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from constellation_core import Health, Restart, TCPCheck
from constellation_core.backoff import RestartBackoff
from constellation_plugin_monitor.machine import CheckMachine


def machine(
    *, rise: int = 1, fall: int = 3, start_period: float = 0, heal: bool = True, **restart: float
) -> CheckMachine:
    policy = Restart(**restart)  # type: ignore[arg-type]
    check = TCPCheck(rise=rise, fall=fall, start_period=start_period)
    return CheckMachine(check, policy, RestartBackoff(policy, Random(1)), heal=heal)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_only_enough_results_in_a_row_change_the_verdict(
    results: list[bool], rise: int, fall: int
) -> None:
    judge = machine(rise=rise, fall=fall, heal=False)
    judge.started(0)
    healthy: bool | None = None
    row = 0
    previous: bool | None = None
    for now, passed in enumerate(results):
        row = row + 1 if passed == previous else 1
        previous = passed
        if row >= (rise if passed else fall):
            healthy = passed
        decision = judge.passed(now) if passed else judge.failed(now, "no")
        expected = {None: None, True: Health.HEALTHY, False: Health.UNHEALTHY}[healthy]
        assert decision.health is expected
        assert decision.restart_in is None


@given(st.lists(st.booleans(), max_size=80))
def test_at_most_one_restart_is_asked_for_until_it_starts_or_is_well(results: list[bool]) -> None:
    judge = machine(fall=2)
    judge.started(0)
    waiting = False
    for now, passed in enumerate(results):
        decision = judge.passed(now) if passed else judge.failed(now, "no")
        if decision.health is Health.HEALTHY and passed:
            waiting = False
        if decision.restart_in is not None:
            assert not waiting
            assert decision.restart_in > 0
            waiting = True


def test_failures_in_the_start_period_do_not_count() -> None:
    judge = machine(fall=1, start_period=10)
    judge.started(100)
    assert judge.failed(109, "booting").health is None
    assert judge.failed(110, "still").health is Health.UNHEALTHY
    judge.started(200)
    assert judge.passed(201).health is Health.HEALTHY
    assert judge.failed(202, "broke early").health is Health.UNHEALTHY


def test_restarts_come_slower_and_end_as_a_crash_loop() -> None:
    judge = machine(fall=1, delay=1, max_delay=20, crash_loop_after=4, reset_after=60)
    waits = []
    healths = []
    for start in range(8):
        judge.started(start)
        decision = judge.failed(start + 0.5, "no")
        waits.append(decision.restart_in or 0)
        healths.append(decision.health)
    assert all(1.5 * a < b for a, b in itertools.pairwise(waits[:5]))
    assert all(18 <= wait <= 22 for wait in waits[6:])
    assert healths[0] is Health.UNHEALTHY
    assert healths[-1] is Health.CRASH_LOOPING


def test_a_calm_run_forgets_earlier_restarts() -> None:
    judge = machine(fall=1, delay=1, reset_after=60)
    judge.started(0)
    assert (judge.failed(1, "no").restart_in or 9) < 2
    judge.started(2)
    assert (judge.failed(3, "no").restart_in or 0) > 1.5
    judge.started(10)
    judge.passed(11)
    judge.passed(80)
    assert (judge.failed(81, "no").restart_in or 9) < 2


@given(st.floats(0.01, 3600), st.floats(0.01, 86_400), st.integers(0, 3000))
def test_the_wait_is_always_within_its_bounds(delay: float, most: float, count: int) -> None:
    backoff = RestartBackoff(Restart(delay=delay, max_delay=most), Random(1))
    for _ in range(min(count, 50)):
        backoff.next_wait()
    assert min(delay, most) * 0.89 <= backoff.next_wait() <= most * 1.11
