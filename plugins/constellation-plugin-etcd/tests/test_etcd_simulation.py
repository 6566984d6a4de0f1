"""The store and leases on simulated etcd members while everything fails by chance.

``CONSENSUS_SEEDS`` says how many seeds each test runs, ``CONSENSUS_FIRST_SEED`` with which it
begins. The checkers are those of the built-in voters, and tested there; that they bite here too is
shown with parts of the plugin taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from constellation_core.consensus.leases import Lease, LeaseLost, LeaseTimes
from constellation_core.testing.consensus.lease_history import Claim, Write, violations
from constellation_core.testing.consensus.lease_runs import lease_run
from constellation_core.testing.consensus.linearizability import check
from constellation_core.testing.consensus.sites import ClosableLeases
from constellation_core.testing.consensus.store_runs import store_run
from constellation_core.testing.consensus.world import World
from constellation_core.testing.virtual_loop import run_virtual
from constellation_plugin_etcd import client, ledger, messages
from constellation_plugin_etcd.messages import Found
from constellation_plugin_etcd.testing.simulated import SimulatedEtcd, SimulatedMember

SEEDS = int(os.environ.get("CONSENSUS_SEEDS", "16"))
FIRST = int(os.environ.get("CONSENSUS_FIRST_SEED", "0"))
TIMES = LeaseTimes(ttl=6.0)
OFFSETS = (0.0, 0.5, 1.0, 1.5)
"""Seconds since a renewal at which a leader is deposed, more or less; they are two apart."""

pytestmark = pytest.mark.timeout(60 + 4 * SEEDS)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="constellation")


def test_a_lease_in_etcd_has_one_holder_at_a_time() -> None:
    entered = lost = late = 0
    for seed in range(FIRST, FIRST + SEEDS):
        run = run_virtual(lease_run(seed, site=SimulatedEtcd))
        assert violations(run.events) == [], f"seed {seed}"
        assert run.healed, f"seed {seed}"
        entered, lost, late = entered + run.entered, lost + run.lost, late + run.late
    # The runs were worth it: leases were taken and lost, and the sink had something to refuse.
    assert entered > 5 * SEEDS
    assert lost > SEEDS
    assert late > SEEDS / 20


def test_the_store_in_etcd_is_linearizable_and_its_watchers_catch_up() -> None:
    unknown = calls = 0
    for seed in range(FIRST, FIRST + SEEDS):
        run = run_virtual(store_run(seed, site=SimulatedEtcd))
        violation = check(run.history)
        assert violation is None, f"seed {seed}: {violation}"
        assert run.watched == run.stored, f"seed {seed}"
        unknown, calls = unknown + run.unknown, calls + len(run.history)
    assert calls > 80 * SEEDS
    assert unknown > SEEDS


def test_without_the_mark_of_the_last_write_a_write_is_done_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def not_done(*_: object) -> None:
        return None

    monkeypatch.setattr(ledger.Ledger, "_done_at", not_done)
    assert any(
        check(run_virtual(store_run(seed, site=SimulatedEtcd)).history) for seed in range(100)
    )


def test_without_the_comparison_of_the_ledger_a_write_is_done_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def anything(key: bytes, revision: int) -> dict[str, Any]:
        if key.endswith(b"ledger"):
            return messages.modified_is(b"/never/written", 0)
        return messages.modified_is(key, revision)

    monkeypatch.setattr(ledger, "modified_is", anything)
    assert any(
        check(run_virtual(store_run(seed, site=SimulatedEtcd)).history) for seed in range(100)
    )


def test_a_deposed_leader_renews_nothing() -> None:
    """However long it answers keepalives, and however well the others answer reads."""
    for offset in OFFSETS:
        assert violations(run_virtual(_renewed_at_a_deposed_leader(offset))) == []


def test_without_the_comparison_of_terms_a_deposed_leader_renews(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def any_term(answer: Mapping[str, Any]) -> Found:
        return replace(messages.found_in(answer), term=1)

    monkeypatch.setattr(client, "found_in", any_term)
    assert any(violations(run_virtual(_renewed_at_a_deposed_leader(each))) for each in OFFSETS)


class _LoyalEtcd(SimulatedEtcd):
    """Whose clients renew at ``v1`` whoever leads, and ask ``v2`` everything else."""

    def member(self, path: str) -> SimulatedMember:
        return self.members["v1" if path == "/v3/lease/keepalive" else "v2"]


async def _renewed_at_a_deposed_leader(offset: float) -> list[Claim | Write]:
    world = World(1, TIMES)
    site = _LoyalEtcd(world)
    claims: list[Claim | Write] = []
    holders: dict[str, Lease] = {}

    async def hold(name: str, leases: ClosableLeases) -> None:
        with contextlib.suppress(LeaseLost):
            async with leases.hold("dns") as lease:
                holders[name] = lease
                await asyncio.sleep(1e6)

    async with site.running() as tasks:
        # By then all know who leads.
        await asyncio.sleep(6)
        agents = {name: site.leases(name, world.host(), TIMES) for name in ("a", "b")}
        holding = [tasks.create_task(hold(name, each)) for name, each in agents.items()]
        await asyncio.sleep(10 + offset)
        assert len(holders) == 1
        # From now on it hears nothing from the others, and does not notice that.
        world.group.conditions.blindness = (1000.0, 1000.0)
        world.group.conditions.lag = (1000.0, 1000.0)
        world.group.elect("v2")
        for _ in range(200):
            await asyncio.sleep(0.1)
            now = asyncio.get_running_loop().time()
            for name, lease in holders.items():
                with contextlib.suppress(LeaseLost):
                    claims.append(Claim(now, name, lease.epoch))
        assert len(holders) == 2
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)
        for each in agents.values():
            await each.close()
    return claims
