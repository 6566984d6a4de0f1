"""Voters with the real engine, in this process and on loopback, and agents beside them.

The agents reach the voters without a network, with one hop to the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID, uuid4

from constellation_core.consensus.access import Access, LocalAccess, Renewal
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import (
    EngineSettings,
    Identity,
    RaftEngine,
    Timing,
    create,
)
from constellation_core.consensus.interface import NotLeader, Role, Unavailable, Voter
from constellation_core.consensus.leases import (
    LeaseDuties,
    Leases,
    LeaseTimes,
    ThreadWatchdog,
    holder_id,
)
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Answer, Query, ReplicatedState
from constellation_core.consensus.store import Store
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until_so

T = TypeVar("T")

BRISK = Timing(
    election_min=0.3, election_max=0.6, heartbeat=0.05, leader_patience=0.6, compact_entries=20
)
"""So that much happens in little time, snapshots included."""

_KEY = bytes(range(32))
_DEADLINE = 60.0


@dataclass(slots=True)
class LoopbackVoter:
    """A voter that runs, with what stands on it."""

    engine: RaftEngine
    state: ReplicatedState
    access: LocalAccess
    duties: asyncio.Task[None]


class LoopbackVoters:
    """A group of voters.

    Args:
        root: for their directories.
        times: of the leases.
        timing: of the engines.
        count: how many.

    Attributes:
        voters: all of them.
        running: those that run, by id.
    """

    def __init__(
        self, root: Path, times: LeaseTimes, timing: Timing = BRISK, count: int = 3
    ) -> None:
        ports, cluster = PortPicker(), uuid4()
        self.voters = tuple(Voter(str(uuid4()), f"127.0.0.1:{ports.pick()}") for _ in range(count))
        self.running: dict[str, LoopbackVoter] = {}
        self._root = root
        self._times = times
        self._timing = timing
        for voter in self.voters:
            (root / voter.id).mkdir()
            identity = Identity(cluster, UUID(voter.id))
            create(root / voter.id, identity, self.voters, ReplicatedState().snapshot())

    async def start(self, voter_id: str) -> None:
        """Start one."""
        address = next(voter.address for voter in self.voters if voter.id == voter_id)
        host, _, port = address.rpartition(":")
        state = ReplicatedState()
        settings = EngineSettings(self._root / voter_id, (host, int(port)), (_KEY,), self._timing)
        engine = RaftEngine(settings, state)
        await engine.start()
        duties = LeaseDuties(engine, state, SystemBootClock(), self._times)
        access = LocalAccess(engine, state, duties.renew)
        task = asyncio.create_task(duties.run())
        self.running[voter_id] = LoopbackVoter(engine, state, access, task)

    async def start_all(self) -> None:
        """Start those that do not run."""
        for voter in self.voters:
            if voter.id not in self.running:
                await self.start(voter.id)

    async def stop(self, voter_id: str) -> None:
        """Stop one; its directory stays."""
        voter = self.running.pop(voter_id)
        voter.duties.cancel()
        await asyncio.wait([voter.duties])
        await voter.engine.stop()

    async def stop_all(self) -> None:
        """Stop those that run."""
        for voter_id in list(self.running):
            await self.stop(voter_id)

    async def leader(self) -> str:
        """The id of the one that leads, as soon as there is one."""

        def find() -> list[str]:
            return [
                voter_id
                for voter_id, voter in self.running.items()
                if voter.engine.status.role is Role.LEADER
            ]

        await until_so(find, _DEADLINE, "a leader")
        return find()[0]


class OneHop:
    """Asks a voter, and the leader that this one names.

    Args:
        voters: the group.
        first: the voter's id; any that runs by default.

    Attributes:
        gone: nothing gets through any more.
    """

    def __init__(self, voters: LoopbackVoters, first: str | None = None) -> None:
        self.gone = False
        self._voters = voters
        self._first = first

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As the access's."""
        return await self._ask(lambda access: access.propose(operation, timeout=timeout))

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """As the access's."""
        return await self._ask(
            lambda access: access.query(
                query, linearizable=linearizable, wait=wait, timeout=timeout
            )
        )

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """As the access's."""
        return await self._ask(lambda access: access.renew(epochs, timeout=timeout))

    async def _ask(self, call: Callable[[Access], Awaitable[T]]) -> T:
        running = self._voters.running
        first = self._first or next(iter(running), None)
        if self.gone or first not in running:
            raise Unavailable("this voter does not run")
        try:
            return await call(running[first].access)
        except NotLeader as error:
            if error.hint is None or error.hint.id not in running:
                raise
            return await call(running[error.hint.id].access)


class LoopbackBackend:
    """What an agent beside the voters uses: a
    :class:`~constellation_core.consensus.backend.ConsensusBackend`.

    Args:
        voters: the group.
        node: the agent's name.
        times: of the leases; those of the group.
        first: the voter to ask first.
    """

    name = "raft"

    def __init__(
        self, voters: LoopbackVoters, node: str, times: LeaseTimes, first: str | None = None
    ) -> None:
        self.access = OneHop(voters, first)
        clock, random = SystemBootClock(), Random()
        requests = Requests(self.access, clock, random)
        self.store = Store(self.access, requests, clock, random)
        self.leases = Leases(
            self.access,
            requests,
            clock,
            random,
            ThreadWatchdog(),
            holder=holder_id(node, random),
            times=times,
        )
        self._voters = voters

    async def run(self) -> None:
        """Nothing is to be done."""
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """End all blocks."""
        await self.leases.close()

    def describe(self) -> Mapping[str, Any]:
        """As the protocol says."""
        statuses = [voter.engine.status for voter in self._voters.running.values()]
        leader = next((each.leader.id for each in statuses if each.leader is not None), None)
        return {
            "backend": self.name,
            "available": leader is not None,
            "leader": leader,
            "problems": [],
        }


class LoopbackFleet:
    """A :class:`~.conformance.fleet.Fleet` on the real engine.

    Args:
        root: for the voters' directories.
    """

    ttl = 3.0

    def __init__(self, root: Path) -> None:
        self._times = LeaseTimes(ttl=self.ttl, gather=0.05)
        self._voters = LoopbackVoters(root, self._times)
        self._agents: dict[str, LoopbackBackend] = {}

    async def start(self) -> None:
        """Start the voters."""
        await self._voters.start_all()

    async def stop(self) -> None:
        """Stop everything."""
        for agent in self._agents.values():
            await agent.close()
        await self._voters.stop_all()

    async def join(self, node: str) -> LoopbackBackend:
        """As the fleet's."""
        self._agents[node] = LoopbackBackend(self._voters, node, self._times)
        return self._agents[node]

    async def crash(self, node: str) -> None:
        """As the fleet's."""
        self._agents[node].access.gone = True

    async def cut(self) -> None:
        """Stop all voters but one."""
        for voter_id in list(self._voters.running)[1:]:
            await self._voters.stop(voter_id)

    async def heal(self) -> None:
        """Start them again."""
        await self._voters.start_all()

    async def stumble(self) -> None:
        """Stop the leader, and start it when another one leads."""
        leader = await self._voters.leader()
        await self._voters.stop(leader)
        await self._voters.leader()
        await self._voters.start(leader)
