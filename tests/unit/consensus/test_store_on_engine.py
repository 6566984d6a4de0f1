"""The store and leases on the real engine: threads, sockets and disks of three voters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from constellation_core.consensus.access import Access, LocalAccess, Renewal
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import (
    EngineSettings,
    Identity,
    RaftEngine,
    Timing,
    create,
)
from constellation_core.consensus.interface import NotLeader, Role, Voter
from constellation_core.consensus.leases import (
    LeaseDuties,
    Leases,
    LeaseTimes,
    ThreadWatchdog,
    holder_id,
)
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Answer, Query, ReplicatedState
from constellation_core.consensus.store import CompareFailed, Store
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until, until_so

T = TypeVar("T")

KEY = bytes(range(32))
DEADLINE = 60.0
BRISK = Timing(
    election_min=0.3, election_max=0.6, heartbeat=0.05, leader_patience=0.6, compact_entries=20
)
TIMES = LeaseTimes(ttl=10.0, gather=0.05)


@dataclass(slots=True)
class Node:
    """A voter with what stands on it."""

    engine: RaftEngine
    state: ReplicatedState
    access: LocalAccess
    running: asyncio.Task[None]


class OneHop:
    """Asks one voter, and the leader that this one names."""

    def __init__(self, nodes: dict[str, Node], first: str) -> None:
        self._nodes = nodes
        self._first = first

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        return await self._ask(lambda access: access.propose(operation, timeout=timeout))

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        return await self._ask(
            lambda access: access.query(
                query, linearizable=linearizable, wait=wait, timeout=timeout
            )
        )

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        return await self._ask(lambda access: access.renew(epochs, timeout=timeout))

    async def _ask(self, call: Callable[[Access], Awaitable[T]]) -> T:
        try:
            return await call(self._nodes[self._first].access)
        except NotLeader as error:
            if error.hint is None or error.hint.id not in self._nodes:
                raise
            return await call(self._nodes[error.hint.id].access)


class Group:
    def __init__(self, root: Path) -> None:
        ports, self._root, self._cluster = PortPicker(), root, uuid4()
        self.voters = tuple(Voter(str(uuid4()), f"127.0.0.1:{ports.pick()}") for _ in range(3))
        self.nodes: dict[str, Node] = {}
        for voter in self.voters:
            (root / voter.id).mkdir()
            identity = Identity(self._cluster, UUID(voter.id))
            create(root / voter.id, identity, self.voters, ReplicatedState().snapshot())

    async def start(self, voter: Voter) -> None:
        state = ReplicatedState()
        port = int(voter.address.rpartition(":")[2])
        settings = EngineSettings(self._root / voter.id, ("127.0.0.1", port), (KEY,), BRISK)
        engine = RaftEngine(settings, state)
        await engine.start()
        duties = LeaseDuties(engine, state, SystemBootClock(), TIMES)
        running = asyncio.create_task(duties.run())
        access = LocalAccess(engine, state, duties.renew)
        self.nodes[voter.id] = Node(engine, state, access, running)

    async def stop(self, voter_id: str) -> None:
        node = self.nodes.pop(voter_id)
        node.running.cancel()
        await asyncio.wait([node.running])
        await node.engine.stop()

    async def leader(self) -> str:
        def find() -> list[str]:
            return [i for i, n in self.nodes.items() if n.engine.status.role is Role.LEADER]

        await until_so(find, DEADLINE, "a leader")
        return find()[0]

    def client(self, voter_id: str) -> tuple[Store, Leases]:
        access, clock, random = OneHop(self.nodes, voter_id), SystemBootClock(), Random()
        requests = Requests(access, clock, random)
        leases = Leases(
            access,
            requests,
            clock,
            random,
            ThreadWatchdog(),
            holder=holder_id(voter_id, random),
            times=TIMES,
        )
        return Store(access, requests, clock, random), leases


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    made = Group(tmp_path)
    for voter in made.voters:
        await made.start(voter)
    yield made
    for voter_id in list(made.nodes):
        await made.stop(voter_id)


async def test_store_and_leases_live_through_the_loss_of_the_leader(group: Group) -> None:
    leader = await group.leader()
    others = [voter_id for voter_id in group.nodes if voter_id != leader]
    (store, leases), (other, waiting) = (group.client(voter_id) for voter_id in others)
    revision = await store.put("a", b"1", timeout=DEADLINE)
    with pytest.raises(CompareFailed):
        await other.compare_and_set("a", b"x", revision + 1, timeout=DEADLINE)
    seen: list[bytes] = []

    async def watch() -> None:
        async for changes in other.watch("a"):
            seen.extend(entry.value for entry in changes.entries)

    watching = asyncio.create_task(watch())
    async with leases.hold("dns") as lease:
        first = lease.epoch
        entering = asyncio.create_task(enter(waiting))
        await group.stop(leader)
        # More than once around the snapshots, under the new leader.
        for number in range(2, 60):
            revision = await other.compare_and_set(
                "a", str(number).encode(), revision, timeout=DEADLINE
            )
        left = lease.remaining
        await until_so(lambda: lease.remaining > left, DEADLINE, "a renewal by the new leader")
        assert not entering.done()
    assert await entering > first
    await group.start(next(voter for voter in group.voters if voter.id == leader))
    await until_so(lambda: seen[-1:] == [b"59"], DEADLINE, "the watcher")
    entry = await store.get("a", timeout=DEADLINE)
    assert entry is not None
    assert (entry.value, entry.revision) == (b"59", revision)
    watching.cancel()
    await asyncio.wait([watching])

    async def same() -> bool:
        states = [await node.engine.read(node.state.snapshot) for node in group.nodes.values()]
        return states.count(states[0]) == len(states)

    await until(same, DEADLINE, "three equal states")


async def enter(leases: Leases) -> int:
    async with leases.hold("dns") as lease:
        return lease.epoch
