"""A thousand nodes with ten services each, in one process: the same for the same seed."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from constellation_core.model.health import Health
from constellation_core.model.node import NodeState
from constellation_core.testing.fleet import SimulatedFleet

SERVICES = 10


@pytest.fixture(autouse=True)
def _unfrozen_afterwards() -> Iterator[None]:
    """What is frozen may be collected again."""
    yield
    gc.unfreeze()


def trace(seed: int, size: int, seconds: float, *, acquainted: bool) -> str:
    sim = SimulatedFleet(seed, size, services=3, acquainted=acquainted, traced=True)
    sim.network.conditions.loss = 0.05
    for step in range(int(seconds)):
        name = f"node-{sim.network.rng.randrange(size)}"
        sim.put(name, "s1", restarts=step)
        sim.network.run_for(1)
    return sim.network.trace


@pytest.mark.parametrize("acquainted", [True, False])
def test_the_same_seed_gives_the_same_trace(acquainted: bool) -> None:
    first = trace(3, 20, 10, acquainted=acquainted)
    assert first == trace(3, 20, 10, acquainted=acquainted)
    assert first != trace(4, 20, 10, acquainted=acquainted)


def test_a_thousand_nodes_of_ten_services() -> None:
    sim = SimulatedFleet(1, 1_000, services=SERVICES)
    gc.freeze()  # ten million references are not to be looked through again and again
    sim.network.run_for(1)
    sim.node("node-77").kill()
    sim.put("node-500", "s3", Health.UNHEALTHY)
    others = sim.network.running()

    def told() -> bool:
        seen = (sim.catalogs[node.name].instance("s3.node-500") for node in others)
        return all(each is not None and each.health is Health.UNHEALTHY for each in seen)

    assert sim.network.run_until(told, 10, step=0.5) <= 3.0

    def noticed() -> bool:
        return all(node.state_of("node-77") is NodeState.DEAD for node in others)

    assert sim.network.run_until(noticed, 15, step=0.5) <= 10.0
    assert {each.node for each in sim.declared_dead} == {"node-77"}
    assert len(sim.catalogs["node-3"].instances()) == 1_000 * SERVICES
