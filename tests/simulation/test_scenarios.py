"""What happens to fleets, under a virtual clock: what must always be so, and how soon all agree.

The bounds are those of docs/gossip.md.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.catalog import CatalogConfig
from constellation_core.gossip.config import GossipConfig
from constellation_core.model.health import Health
from constellation_core.model.node import NodeState
from constellation_core.testing.fleet import SimulatedFleet

SEEDS = (1, 2)
SIZE = 24
SERVICES = 4

CALM = 15.0
"""Seconds in which all agree after the last change, when packets arrive."""
LOSSY = 30.0
"""The same while one packet of five is lost."""
HEALED = 60.0
"""The same after a partition, however long it was, or after a mass restart."""


def fleet(seed: int, size: int = SIZE) -> SimulatedFleet:
    return SimulatedFleet(seed, size, services=SERVICES)


def churn(fleet: SimulatedFleet, seconds: float, every: float = 1.0) -> None:
    """Change a row of some running node every so often."""
    rng = fleet.network.rng
    end = fleet.network.now + seconds
    while fleet.network.now < end:
        name = rng.choice(fleet.names)
        health = rng.choice([Health.HEALTHY, Health.UNHEALTHY])
        fleet.put(name, f"s{rng.randrange(SERVICES)}", health, restarts=int(fleet.network.now))
        fleet.run_for(min(every, end - fleet.network.now))


def check(fleet: SimulatedFleet) -> None:
    """What must be so in every scenario, whatever happens."""
    assert not fleet.went_back, fleet.went_back[:3]
    config = CatalogConfig()
    for name, catalog in fleet.catalogs.items():
        for seconds in (1, 10):
            allowed = config.burst + seconds * config.bytes_per_second
            assert catalog.sent.worst(seconds) <= allowed, name


def nobody_declared_dead(fleet: SimulatedFleet) -> None:
    assert not fleet.declared_dead, fleet.declared_dead[:3]


# --- calm: everybody lives and is reached ---------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("loss", "bound"), [(0.02, CALM), (0.2, LOSSY)])
def test_loss(seed: int, loss: float, bound: float) -> None:
    sim = fleet(seed)
    sim.network.conditions.loss = loss
    churn(sim, 60)
    nobody_declared_dead(sim)
    # Under loss somebody is always suspected by somebody: that all see all alive needs calm.
    sim.network.run_until(sim.agrees_on_versions, bound)
    sim.network.conditions.loss = 0
    sim.converge(CALM)
    nobody_declared_dead(sim)
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_duplicated_and_reordered_packets(seed: int) -> None:
    sim = fleet(seed)
    sim.network.conditions.duplication = 0.3
    sim.network.conditions.latency = (0.001, 0.15)
    churn(sim, 60)
    sim.converge(CALM)
    nobody_declared_dead(sim)
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_way_links(seed: int) -> None:
    sim = fleet(seed)
    names = sim.names
    for _ in range(6):
        one, two = sim.network.rng.sample(names, 2)
        sim.network.conditions.cut.add((one, two))
    churn(sim, 60)
    sim.network.run_until(sim.agrees_on_versions, CALM)
    nobody_declared_dead(sim)
    sim.network.conditions.heal()
    sim.converge(CALM)
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_clock_skew(seed: int) -> None:
    sim = fleet(seed, 1)
    rng = sim.network.rng
    for number in range(1, SIZE):
        sim.start(f"node-{number}", clock_offset=rng.choice([-86_400.0, -60.0, 0.0, 60.0, 86_400]))
        sim.put(f"node-{number}", "s0")
        sim.node(f"node-{number}").join(sim.node("node-0"))
    sim.run_for(10)
    churn(sim, 20)
    sim.converge(CALM)
    nobody_declared_dead(sim)
    # A node restarts after its clock was set back by a week: nobody may hold to its earlier life.
    sim.node("node-5").kill()
    sim.run_for(1)
    sim.start("node-5", clock_offset=-7 * 86_400.0)
    sim.put("node-5", "s0", restarts=77)
    sim.node("node-5").join(sim.node("node-1"))
    sim.converge(HEALED)
    seen = [sim.catalogs[name].instance("s0.node-5") for name in sim.names]
    assert [instance and instance.restarts for instance in seen] == [77] * SIZE
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_flapping_services(seed: int) -> None:
    sim = fleet(seed)
    for step in range(120):
        for name in ("node-1", "node-2", "node-3"):
            health = Health.UNHEALTHY if step % 2 else Health.HEALTHY
            sim.put(name, "s1", health, restarts=step)
        sim.run_for(0.25)
    sim.converge(CALM)
    nobody_declared_dead(sim)
    check(sim)


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_node_is_noticed_and_its_services_are_unreachable(seed: int) -> None:
    sim = fleet(seed)
    sim.node("node-7").kill()

    def noticed() -> bool:
        found = [sim.catalogs[name].instance("s0.node-7") for name in sim.names]
        return all(each is not None and each.health is Health.UNREACHABLE for each in found)

    assert sim.network.run_until(noticed, 20) <= 6.0
    assert {each.node for each in sim.declared_dead} == {"node-7"}
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seconds", [0.4, 2.0, 20.0])
def test_pauses(seed: int, seconds: float) -> None:
    sim = fleet(seed)
    paused = ["node-2", "node-9", "node-11"]
    sim.run_for(5)
    for name in paused:
        sim.node(name).pause()
    sim.run_for(seconds)
    for name in paused:
        sim.node(name).resume()
    sim.converge(HEALED)
    # Nobody, and least of all who was paused, holds anybody to be dead but who was not there.
    assert {each.node for each in sim.declared_dead} <= set(paused)
    if seconds < 1:
        nobody_declared_dead(sim)
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_partition_of_ten_seconds(seed: int) -> None:
    sim = fleet(seed)
    nodes = list(sim.network.nodes.values())
    sim.run_for(5)
    sim.network.conditions.split(nodes[:8], nodes[8:])
    churn(sim, 10)
    sim.network.conditions.heal()
    sim.converge(HEALED)
    small = {node.name for node in nodes[:8]}
    for each in sim.declared_dead:
        assert (each.by in small) != (each.node in small), "only the other side can seem dead"
    check(sim)


def unhurried(name: str) -> GossipConfig:
    """A node that does everything a tenth as often, so that a day is simulated in seconds."""
    return GossipConfig(
        name, probe_interval=20, probe_timeout=2, gossip_interval=4, push_pull_interval=600
    )


def test_a_partition_of_more_than_a_day() -> None:
    # After a day of it the sides have forgotten each other.
    config = CatalogConfig(sync_interval=300)
    sim = SimulatedFleet(5, 6, services=2, config=unhurried, catalog=config)
    nodes = list(sim.network.nodes.values())
    sim.network.conditions.split(nodes[:2], nodes[2:])
    for _ in range(26):
        sim.network.run_for(3_600)
        for name in sim.names:
            sim.put(name, "s1", restarts=int(sim.network.now))
    assert sim.node("node-0").alive_names() == {"node-0", "node-1"}
    sim.network.conditions.heal()
    # A tenth as often, so ten times the bound; the rejoin loop is as quick as ever.
    sim.converge(10 * HEALED)
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_mass_restart(seed: int) -> None:
    sim = fleet(seed)
    churn(sim, 10)
    names = sim.names
    for name in names:
        sim.node(name).kill()
    sim.run_for(3)
    for name in names:
        sim.start(name)
        for number in range(SERVICES):
            sim.put(name, f"s{number}", restarts=1)
    sim.converge(HEALED)
    assert len(sim.catalogs["node-0"].instances()) == SIZE * SERVICES
    check(sim)


def test_many_start_at_once() -> None:
    sim = SimulatedFleet(1, 60, services=SERVICES, acquainted=False)
    sim.converge(HEALED)
    nobody_declared_dead(sim)
    # Not everybody asks everybody: that were 3540 connections in a moment.
    assert sum(catalog.stats.pulls for catalog in sim.catalogs.values()) < 1_000
    check(sim)


@pytest.mark.parametrize("seed", SEEDS)
def test_rolling_restart(seed: int) -> None:
    sim = fleet(seed)
    for name in sim.names:
        sim.node(name).leave()
        sim.run_for(1)
        sim.node(name).kill()
        sim.run_for(1)
        sim.start(name)
        for number in range(SERVICES):
            sim.put(name, f"s{number}", restarts=1)
        sim.run_for(2)
    sim.converge(CALM)
    nobody_declared_dead(sim)
    check(sim)


# --- the whole, by chance -------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "kill", "restart", "pause", "resume", "split", "heal", "cut", "loss", "wait"]
        ),
        st.integers(0, 7),
        st.integers(0, 7),
        st.floats(0.1, 12),
    ),
    max_size=10,
)


@settings(max_examples=15)
@given(st.integers(0, 2**32), STEPS)
def test_whatever_happens_all_agree_afterwards(
    seed: int, steps: list[tuple[str, int, int, float]]
) -> None:
    sim = SimulatedFleet(seed, 8, services=2)
    paused: set[str] = set()

    def restart(name: str) -> None:
        sim.start(name)
        sim.put(name, "s0", restarts=int(sim.network.now))
        paused.discard(name)

    for what, one, two, seconds in steps:
        name = f"node-{one}"
        node = sim.node(name)
        match what:
            case "put" if node.running:
                sim.put(name, f"s{two % 2}", restarts=int(1000 * sim.network.now))
            case "kill":
                node.kill()
            case "restart" if not node.running:
                restart(name)
            case "pause" if node.running:
                node.pause()
                paused.add(name)
            case "resume" if name in paused:
                node.resume()
                paused.discard(name)
            case "split":
                nodes = list(sim.network.nodes.values())
                sim.network.conditions.split(nodes[: one + 1], nodes[one + 1 :])
            case "heal":
                sim.network.conditions.heal()
            case "cut":
                sim.network.conditions.cut.add((name, f"node-{two}"))
            case "loss":
                sim.network.conditions.loss = two / 10
        sim.run_for(seconds)
    sim.network.conditions.heal()
    sim.network.conditions.loss = 0
    for name in sorted(paused):
        sim.node(name).resume()
    for name in sorted(sim.network.nodes):
        if not sim.node(name).running:
            restart(name)
    sim.converge(HEALED)
    check(sim)


def test_nothing_is_declared_dead_while_nothing_happens() -> None:
    sim = SimulatedFleet(1, 50, services=5)
    churn(sim, 30, every=0.5)
    sim.converge(CALM)
    nobody_declared_dead(sim)
    assert all(node.state_of("node-0") is NodeState.ALIVE for node in sim.network.running())
    check(sim)
