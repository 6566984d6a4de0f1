"""Simulated voters and a network, and everything that may go wrong with them.

All chance comes from one seed. Nothing is judged here: runs give histories, which
:mod:`.lease_history` and :mod:`.linearizability` judge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random

from constellation_core.consensus.leases import LeaseTimes
from constellation_core.testing.consensus.clients import ClientNetwork, LinkConditions
from constellation_core.testing.consensus.group import SimulatedGroup, SimulatedHost

MOST_DRIFT = 0.01
"""Share by which simulated clocks run fast or slow."""

SHORT_TIMES = LeaseTimes(ttl=6.0, gather=0.2)
"""So that much happens in little simulated time."""


class World:
    """Voters, a network, and what breaks them.

    Args:
        seed: of all chance.
        times: of the leases.
    """

    def __init__(self, seed: int, times: LeaseTimes) -> None:
        self.random = Random(seed)
        self.group = SimulatedGroup(self.random, {f"v{n}": self.host() for n in (1, 2, 3)})
        self.network = ClientNetwork(self.group, times)
        self.group.elect("v1")

    def host(self) -> SimulatedHost:
        """A machine whose clock shows anything and is a little wrong."""
        rate = 1 + self.random.uniform(-MOST_DRIFT, MOST_DRIFT)
        return SimulatedHost(rate, self.random.uniform(0, 1e6))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Let the voters do their duties; what is added to the group ends with the block."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(server.duties.run()) for server in self.network.servers.values()
            ]
            yield tasks
            for task in running:
                task.cancel()
            await self.network.close()

    async def break_things(self, seconds: float, extra: tuple[Callable[[], None], ...]) -> None:
        """One mishap after the other for that long, then none is left."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        mishaps: list[Callable[[], None]] = [
            self._elect,
            self._lose_leader,
            self._pause_voter,
            self._stop_voter,
            self._restart_voter,
            self._retire_voter,
            self._spoil_network,
            self._mend_network,
            *extra,
        ]
        while loop.time() < until:
            self.random.choice(mishaps)()
            await asyncio.sleep(self.random.expovariate(1 / 4.0))
        self._mend_network()
        self.network.conditions.cut = frozenset()
        for voter in self.group.voters.values():
            voter.host.resume()
            voter.up = True
        for server in self.network.servers.values():
            server.votes = True
        self.group.elect("v1")

    def later(self, least: float, most: float, what: Callable[[], object]) -> None:
        """Do ``what`` after a while."""
        delay = self.random.uniform(least, most)
        asyncio.get_running_loop().call_later(delay, what)

    def _elect(self) -> None:
        self.group.elect(self.random.choice(list(self.group.voters)))

    def _lose_leader(self) -> None:
        self.group.elect(None)
        self.later(0.1, 5, self._elect)

    def _pause_voter(self) -> None:
        voter = self.random.choice(list(self.group.voters.values()))
        voter.host.pause()
        self.later(0.1, 15, voter.host.resume)
        if voter is self.group.leader:
            self.later(0.5, 3, self._elect)

    def _stop_voter(self) -> None:
        voter = self.random.choice(list(self.group.voters.values()))
        voter.up = False
        self.later(0.1, 5, lambda: setattr(voter, "up", True))
        if voter is self.group.leader:
            self.later(0.5, 3, self._elect)

    def _restart_voter(self) -> None:
        state = self.random.choice(list(self.group.voters.values())).state
        state.restore(state.snapshot())

    def _retire_voter(self) -> None:
        server = self.random.choice(list(self.network.servers.values()))
        server.votes = False
        self.later(0.1, 10, lambda: setattr(server, "votes", True))

    def _spoil_network(self) -> None:
        conditions = self.network.conditions
        conditions.loss = self.random.choice([0.05, 0.2, 0.5])
        conditions.duplication = self.random.choice([0.0, 0.2, 0.5])
        conditions.stalls = self.random.choice([0.0, 0.02, 0.2])
        conditions.latency = (0.0005, self.random.choice([0.01, 0.3, 1.5]))
        conditions.rumours = self.random.choice([0.0, 0.3, 1.0])

    def _mend_network(self) -> None:
        before = self.network.conditions
        self.network.conditions = LinkConditions(cut=before.cut, honest=before.honest)
