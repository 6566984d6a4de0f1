"""One node lies about others: nobody believes it for long, and nothing of it stays."""

from __future__ import annotations

import pytest

from constellation_core.catalog.messages import encode as encode_catalog
from constellation_core.catalog.owners import Update
from constellation_core.catalog.rows import instance_row
from constellation_core.gossip.member import encode_tags
from constellation_core.gossip.messages import Alive, Dead, Plain, Suspect, UserMessage, encode
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.testing.fleet import SimulatedFleet

SEEDS = (1, 2)
SIZE = 12
LIAR = "node-0"
VICTIM = "node-5"
HUGE = (2**32 - 1, 2**32 - 2, 2**31, 2_000_000_000)

LIED = 20.0
"""Seconds in which all agree after the last lie."""


def fleet(seed: int) -> SimulatedFleet:
    sim = SimulatedFleet(seed, SIZE, services=3)
    sim.run_for(6)
    return sim


def lie(sim: SimulatedFleet, message: Plain | UserMessage, *, to_the_victim: bool = True) -> None:
    """Let the liar tell everybody."""
    liar = sim.node(LIAR)
    for name in sim.names:
        if name != LIAR and (to_the_victim or name != VICTIM):
            sim.network.send_datagram(liar, sim.node(name).address, encode(message))


def incarnation(sim: SimulatedFleet) -> int:
    return sim.node(VICTIM).protocol.table.local.incarnation


def truth_prevails(sim: SimulatedFleet) -> None:
    said = sim.catalogs[VICTIM].instances()
    sim.converge(LIED)
    assert sim.catalogs[VICTIM].instances() == said
    mine = [each for each in sim.catalogs["node-9"].instances() if each.node == VICTIM]
    assert mine
    assert {each.health for each in mine} == {Health.HEALTHY}
    # What is changed afterwards is believed as ever.
    sim.put(VICTIM, "s0", restarts=99)
    sim.converge(LIED)
    changed = sim.catalogs["node-9"].instance(f"s0.{VICTIM}")
    assert changed is not None
    assert changed.restarts == 99


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("to_the_victim", [True, False])
def test_it_says_that_a_live_node_is_dead(seed: int, to_the_victim: bool) -> None:
    sim = fleet(seed)
    for _ in range(20):
        lie(sim, Dead(incarnation(sim), VICTIM, LIAR), to_the_victim=to_the_victim)
        sim.run_for(0.5)
    truth_prevails(sim)
    assert {each.node for each in sim.declared_dead} <= {VICTIM}


@pytest.mark.parametrize("seed", SEEDS)
def test_it_suspects_everybody(seed: int) -> None:
    sim = fleet(seed)
    for _ in range(20):
        for name in sim.names[1:]:
            number = sim.node(name).protocol.table.local.incarnation
            lie(sim, Suspect(number, name, LIAR))
        sim.run_for(0.5)
    assert not sim.declared_dead
    truth_prevails(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_says_that_a_live_node_has_left(seed: int) -> None:
    sim = fleet(seed)
    for _ in range(5):
        lie(sim, Dead(incarnation(sim), VICTIM, VICTIM), to_the_victim=False)
        sim.run_for(1)
    truth_prevails(sim)


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("kind", ["dead", "suspect", "alive"])
def test_it_claims_huge_incarnations(number: int, kind: str) -> None:
    sim = fleet(number % 97)
    local = sim.node(VICTIM).protocol.table.local
    message: Plain
    match kind:
        case "dead":
            message = Dead(number, VICTIM, LIAR)
        case "suspect":
            message = Suspect(number, VICTIM, LIAR)
        case _:
            true = local.alive()
            message = Alive(number, VICTIM, true.address, true.port, b"", true.versions)
    for _ in range(3):
        lie(sim, message)
        sim.run_for(1)
    truth_prevails(sim)


@pytest.mark.parametrize("epoch", [1, 1_800_000_000, 2**62])
def test_it_tells_of_another_life_of_a_node(epoch: int) -> None:
    sim = fleet(7)
    for _ in range(3):
        true = sim.node(VICTIM).protocol.table.local.alive()
        forged = encode_tags({"epoch": f"{epoch:x}"})
        number = true.incarnation + 1
        lie(sim, Alive(number, VICTIM, true.address, true.port, forged, true.versions))
        sim.run_for(1)
    truth_prevails(sim)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ahead", [1, 1_000, 2**61])
@pytest.mark.parametrize("later_life", [0, 1, 10**8, 2**61])
def test_it_publishes_rows_for_others(seed: int, ahead: int, later_life: int) -> None:
    sim = fleet(seed)
    catalog = sim.catalogs[VICTIM]
    epoch, version = catalog.versions()[VICTIM]
    forged = Instance(f"s0.{VICTIM}", "s0", VICTIM, "10.6.6.6", {"http": 666}, Health.HEALTHY)
    for step in range(3):
        at = version + ahead + step
        update = Update(VICTIM, epoch + later_life, 0, at, (instance_row(forged, at),))
        lie(sim, UserMessage(encode_catalog(update)))
        sim.run_for(1)
    truth_prevails(sim)
    addresses = {
        each.address
        for name in sim.names
        for each in sim.catalogs[name].instances()
        if each.node == VICTIM
    }
    assert addresses == {sim.node(VICTIM).address[0]}
