"""Leases and the store while everything fails by chance, judged by checkers that could fail.

``CONSENSUS_SEEDS`` says how many seeds each test runs (a few without it), and
``CONSENSUS_FIRST_SEED`` with which it begins. A seed that fails is named and fails
again when it is run alone.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from random import Random

import pytest

from constellation_core.consensus.access import Access, Renewal
from constellation_core.consensus.leases import LeaseTimes
from constellation_core.consensus.state import Answer, Query, sessions
from constellation_core.testing.consensus.lease_history import Write, violations
from constellation_core.testing.consensus.lease_runs import lease_run
from constellation_core.testing.consensus.linearizability import check
from constellation_core.testing.consensus.store_runs import store_run
from constellation_core.testing.consensus.world import SHORT_TIMES
from constellation_core.testing.virtual_loop import run_virtual

SEEDS = int(os.environ.get("CONSENSUS_SEEDS", "24"))
FIRST = int(os.environ.get("CONSENSUS_FIRST_SEED", "0"))

pytestmark = pytest.mark.timeout(30 + 2 * SEEDS)


@pytest.fixture(autouse=True)
def wall_clocks_jump(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the time of day gets nonsense. And thousands of warnings are of no use."""
    caplog.set_level(logging.CRITICAL, logger="constellation")
    chance = Random(0)
    monkeypatch.setattr(time, "time", lambda: chance.uniform(0, 2e9))


def test_a_lease_has_one_holder_at_a_time() -> None:
    entered = lost = late = 0
    for seed in range(FIRST, FIRST + SEEDS):
        run = run_virtual(lease_run(seed))
        assert violations(run.events) == [], f"seed {seed}"
        assert run.healed, f"seed {seed}"
        entered, lost, late = entered + run.entered, lost + run.lost, late + run.late
    # The runs were worth it: leases were taken and lost, and the sink had something to refuse.
    assert entered > 5 * SEEDS
    assert lost > SEEDS
    assert late > SEEDS / 20


def test_the_store_is_linearizable_and_its_watchers_catch_up() -> None:
    unknown = calls = 0
    for seed in range(FIRST, FIRST + SEEDS):
        run = run_virtual(store_run(seed))
        violation = check(run.history)
        assert violation is None, f"seed {seed}: {violation}"
        assert run.watched == run.stored, f"seed {seed}"
        unknown, calls = unknown + run.unknown, calls + len(run.history)
    assert calls > 100 * SEEDS
    assert unknown > 3 * SEEDS


def test_a_client_that_is_forgotten_does_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for fewer sessions than there are clients."""
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    unknown = 0
    for seed in range(FIRST, FIRST + SEEDS // 4):
        run = run_virtual(store_run(seed))
        violation = check(run.history)
        assert violation is None, f"seed {seed}: {violation}"
        unknown += run.unknown
    assert unknown > SEEDS // 4


def test_a_run_can_be_repeated() -> None:
    first, second = (run_virtual(lease_run(7, seconds=60)) for _ in range(2))
    assert first.events == second.events
    assert run_virtual(store_run(7)).history == run_virtual(store_run(7)).history


# What follows is spoiled on purpose: had the checkers nothing to say to it, they would be worth
# nothing above.


def test_a_leader_that_is_a_little_less_patient_than_holders_trust_is_found() -> None:
    class Hasty(LeaseTimes):
        def patience(self, ttl: float) -> float:
            return self.trusted(ttl) - 0.1 * ttl

    hasty = Hasty(SHORT_TIMES.ttl, gather=SHORT_TIMES.gather)
    assert any(
        violations(run_virtual(lease_run(seed, seconds=60, leader_times=hasty)).events)
        for seed in range(100)
    )


def test_a_sink_that_does_not_fence_is_found() -> None:
    for seed in range(100):
        events = run_virtual(lease_run(seed)).events
        unfenced = [replace(e, accepted=True) if isinstance(e, Write) else e for e in events]
        if unfenced != events:
            assert not violations(events)
            assert violations(unfenced)
            return
    pytest.fail("no seed wrote late")


def test_requests_that_are_done_as_often_as_they_arrive_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions.Sessions, "begin", lambda *_: None)
    monkeypatch.setattr(sessions.Sessions, "end", lambda *_: None)
    assert any(check(run_virtual(store_run(seed)).history) for seed in range(100))


class StaleAccess:
    """Believes any voter whatever it is asked for."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        return await self._access.propose(operation, timeout=timeout)

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        return await self._access.renew(epochs, timeout=timeout)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        return await self._access.query(query, linearizable=False, wait=wait, timeout=timeout)


def test_reads_of_what_some_voter_knows_are_found() -> None:
    assert any(
        check(run_virtual(store_run(seed, through=StaleAccess)).history) for seed in range(100)
    )


def test_who_says_that_a_lost_request_did_not_arrive_is_found() -> None:
    assert any(check(run_virtual(store_run(seed, honest=False)).history) for seed in range(100))
