"""Agents on simulated engines, in virtual time: who votes, and what must hold all the while.

Two clusters never come to life, and no change of the voters leaves those that answer without a
majority. Mishaps are up to whoever uses it; see ``tests/unit/consensus/voters``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

from constellation_core.consensus.voters.settings import VoterSettings, VoterTimes
from constellation_core.testing.consensus.agents import Fleet, FleetConditions
from constellation_core.testing.consensus.group import SimulatedHost
from constellation_core.testing.consensus.simulated_engines import (
    SimulatedCluster,
    SimulatedClusters,
    SimulatedEngines,
)

_AFTERMATH = 8.0
"""Seconds for which a leader may not have noticed yet who does not answer any more."""


class SimulatedFleet:
    """Agents named ``n0``, ``n1`` ..., in three regions; none is started.

    Args:
        root: an empty directory.
        seed: of all chance.
        size: how many agents there are.
        voters: how many are to vote.
        times: patience.

    Attributes:
        doom: share of agents that end the moment they have become voters.
        last_mishap: when something was last done to the fleet, in the loop's seconds.
    """

    def __init__(
        self, root: Path, seed: int, size: int, voters: int, times: VoterTimes | None = None
    ) -> None:
        self.random = Random(seed)
        self.doom = 0.0
        self.last_mishap = 0.0
        self.conditions = FleetConditions()
        self._clock = SimulatedHost(boottime=self.random.uniform(0, 1e6))
        self.fleet = Fleet(root, self.random, self._clock, self.conditions)
        self.agents = self.fleet.agents
        self.clusters = SimulatedClusters(self.random, self.fleet.linked, self.now)
        self.engines: dict[str, SimulatedEngines] = {}
        self._voters: dict[str, set[str]] = {}
        self._ends: set[asyncio.Task[None]] = set()
        for number in range(size):
            self._add(number, voters, times or VoterTimes())

    def now(self) -> float:
        """Virtual seconds."""
        return asyncio.get_running_loop().time()

    def start(self, *names: str) -> None:
        """Start agents, by default all."""
        for name in names or self.agents:
            self.fleet.start(name)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let time pass for the membership and the clusters; stop all agents at the end."""
        async with self.fleet.running(self._turn):
            yield
            await self.ended()

    async def ended(self) -> None:
        """Wait for those that were doomed."""
        while self._ends:
            await asyncio.gather(*self._ends)

    def alive(self) -> list[str]:
        """The clusters that have come to life."""
        return [each for each, cluster in self.clusters.by_id.items() if cluster.lives]

    @property
    def cluster(self) -> SimulatedCluster:
        """The one that has."""
        (only,) = self.alive()
        return self.clusters.by_id[only]

    async def until(self, condition: Callable[[], object], seconds: float) -> None:
        """Wait until it holds.

        Raises:
            AssertionError: it does not in time.
        """
        deadline = self.now() + seconds
        while not condition():
            assert self.now() < deadline, self.describe()
            await asyncio.sleep(0.25)

    def settled(self, voters: int) -> bool:
        """One cluster, that all know, with so many voters, all of which run."""
        if len(self.alive()) != 1:
            return False
        cluster = self.cluster
        ids = {each.id for each in cluster.voters}
        running = {each.voter for each in self.clusters.running if each.shared is cluster}
        up = [each.standing.cluster for each in self.agents.values() if each.up]
        return (
            set(up) == set(self.alive())
            and cluster.voters == cluster.committed
            and len(ids) == voters
            and ids == running
        )

    def describe(self) -> str:
        """How things stand."""
        lines = [f"{each}: {cluster}" for each, cluster in self.clusters.by_id.items()]
        for name, agent in self.agents.items():
            lines.append(f"{name}: {agent.standing if agent.up else 'down'}")
        return "\n".join(lines)

    def _add(self, number: int, voters: int, times: VoterTimes) -> None:
        name, address = f"n{number}", f"10.0.0.{number + 1}:7947"
        engines = SimulatedEngines(self.clusters, name, self._clock, self._machine_at)
        engines.created = partial(self._begun, name)
        self.engines[name] = engines
        self.fleet.add(VoterSettings(name, f"r{number % 3}", address, voters, times=times), engines)

    def _begun(self, name: str) -> None:
        if self.random.random() < self.doom:
            task = asyncio.create_task(self.fleet.stop(name))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    def _machine_at(self, address: str) -> str | None:
        for name, agent in self.agents.items():
            if agent.up and agent.settings.address == address:
                return name
        return None

    def _turn(self) -> None:
        self.clusters.turn()
        for each in self.alive():
            self._check_change(each, self.clusters.by_id[each])
        mine = self.alive()
        for number, one in enumerate(mine):
            for other in mine[:number]:
                shared = self._ids(one) & self._ids(other)
                assert not shared, "two clusters with a founder in common have come to life"

    def _ids(self, cluster: str) -> set[str]:
        return {each.id for each in self.clusters.by_id[cluster].founders}

    def _check_change(self, name: str, cluster: SimulatedCluster) -> None:
        before = self._voters.get(name, set())
        self._voters[name] = {each.id for each in cluster.voters}
        calm = self.now() - self.last_mishap > _AFTERMATH
        if calm and cluster.leader is not None and before not in (set(), self._voters[name]):
            reached = self.clusters.reached(cluster, cluster.leader).keys() & before
            majority = 2 * len(reached) > len(cluster.voters)
            assert majority or len(before) == 1, "a change left the voters without a majority"
