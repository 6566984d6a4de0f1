"""Crashes, power cuts, partitions and changes of the voters, many times over in virtual time.

``CONSENSUS_SEEDS=2000`` runs more of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from pysyncobj import syncobj

from constellation_core.consensus import files
from constellation_core.consensus.engine.journal import Journal
from constellation_core.consensus.engine.matching import DivergedError
from constellation_core.consensus.interface import Corrupt
from constellation_core.testing.consensus import simulated, simulated_voter
from constellation_core.testing.consensus.simulated import Simulation
from constellation_core.testing.consensus.simulated_voter import Node

SEEDS = int(os.environ.get("CONSENSUS_SEEDS", "6"))


def simulate(path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> Simulation:
    path.mkdir(exist_ok=True)
    monkeypatch.setattr(files.os, "fsync", lambda fd: None)
    # The library reads its clock while it is made.
    monkeypatch.setattr(syncobj, "monotonicTime", lambda: 0.0)
    chance = random.Random(seed)
    monkeypatch.setattr(syncobj, "random", chance)
    simulation = Simulation(path, chance, size=3 + 2 * (seed % 3 == 2))
    monkeypatch.setattr(syncobj, "monotonicTime", simulation.clock)
    return simulation


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_and_nobody_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    simulation = simulate(tmp_path / "group", seed, monkeypatch)
    for _ in range(4):
        simulation.run(15, faults=3.0)
        simulation.heal()
        simulation.run(8)
    simulation.heal()
    simulation.check()
    # Otherwise it proves nothing.
    assert len(simulation.observer.acknowledged) > 20
    assert len(simulation.observer.leaders) > 3


def test_it_finds_a_journal_that_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "_synced", lambda self, fd: None)
    with pytest.raises((AssertionError, DivergedError, Corrupt)):
        go_wrong(tmp_path, monkeypatch)


def test_it_finds_a_vote_that_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "setCurrentTerm", lambda self, term, voted_for: None)
    with pytest.raises((AssertionError, DivergedError, Corrupt)):
        go_wrong(tmp_path, monkeypatch)


def test_it_finds_an_acknowledgement_that_leaves_before_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "_POINTS", ("journal.append.half", "journal.append.unsynced"))
    monkeypatch.setattr(simulated_voter, "leaves_early", lambda message: True)
    with pytest.raises((AssertionError, DivergedError, Corrupt)):
        go_wrong(tmp_path, monkeypatch, seeds=(13, 50, 75), faults=6.0)


def go_wrong(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seeds: Iterable[int] = (0, 6, 9, 12),
    faults: float = 3.0,
) -> None:
    for seed in seeds:
        simulation = simulate(path / str(seed), seed, monkeypatch)
        for _ in range(4):
            simulation.run(15, faults=faults)
            simulation.heal()
            simulation.run(8)
        simulation.check()
