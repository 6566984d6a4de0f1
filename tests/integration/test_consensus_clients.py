"""Agents that do not vote, at real voters over real gossip."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest

from constellation_core.agent.consensus.streams import SERVICE, StreamCaller, serve
from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import (
    EngineSettings,
    Identity,
    RaftEngine,
    Timing,
    create,
)
from constellation_core.consensus.interface import Role, Unavailable, Voter
from constellation_core.consensus.leases import (
    LeaseDuties,
    Leases,
    LeaseTimes,
    ThreadWatchdog,
    holder_id,
)
from constellation_core.consensus.remote import ConsensusService, LocalFirst, RemoteAccess
from constellation_core.consensus.remote.network import Caller, Messages
from constellation_core.consensus.remote.wire import (
    MAX_EPOCHS,
    Ask,
    Propose,
    RenewLeases,
    Request,
    decode_request,
    encode_request,
)
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Query, ReplicatedState, Space
from constellation_core.consensus.state.limits import MAX_VALUE
from constellation_core.consensus.state.operations import (
    Expire,
    RaiseVersion,
    Recover,
    Renew,
    encode,
)
from constellation_core.consensus.store import CompareFailed, Store
from constellation_core.gossip import (
    Gossip,
    GossipConfig,
    Keyring,
    Member,
    StreamError,
    StreamSettings,
)
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until_so

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

KEY = bytes(range(32))
DEADLINE = 60.0
BRISK = Timing(
    election_min=0.3, election_max=0.6, heartbeat=0.05, leader_patience=0.6, compact_entries=200
)
TIMES = LeaseTimes(ttl=10.0, gather=0.05)
STREAMS = StreamSettings(most_per_address=1024)


class Watched:
    """A caller that counts the calls under way at which voters wait for something to happen."""

    def __init__(self, caller: Caller) -> None:
        self.waiting = 0
        self._caller = caller

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Messages:
        body = decode_request(request).body
        waits = isinstance(body, Ask) and body.wait > 0
        self.waiting += waits
        try:
            return await self._caller.call(voter, request, timeout=timeout)
        finally:
            self.waiting -= waits


class Node:
    """An agent as far as it matters here: gossip, a way to the voters, perhaps a voter.

    Attributes:
        order: ids of the voters that it knows, in the order in which it tries them.
        hint: who it thinks leads.
    """

    def __init__(self, name: str, names: dict[str, str]) -> None:
        self.gossip = Gossip(
            GossipConfig(name), bind=("127.0.0.1", 0), keyring=Keyring([KEY]), streams=STREAMS
        )
        self.order = list(names)
        self.hint: str | None = None
        self.engine: RaftEngine | None = None
        self.service: ConsensusService | None = None
        self._names = names
        self._running: asyncio.Task[None] | None = None
        self.streams = StreamCaller(self.gossip.streams, self._member)
        self.caller = Watched(LocalFirst(self.streams, lambda: self.service))
        clock, random = SystemBootClock(), Random()
        self.access = RemoteAccess(self, self.caller, clock)
        requests = Requests(self.access, clock, random)
        self.store = Store(self.access, requests, clock, random)
        self.leases = Leases(
            self.access,
            requests,
            clock,
            random,
            ThreadWatchdog(),
            holder=holder_id(name, random),
            times=TIMES,
        )

    def voters(self) -> list[str]:
        return self.order

    def leader(self) -> str | None:
        return self.hint

    async def start(self, seed: Node | None) -> None:
        await self.gossip.start()
        serve(self.gossip.streams, lambda: self.service)
        if seed is not None:
            host, port = seed.gossip.local.address
            (joined,) = await self.gossip.join([f"{host}:{port}"])
            assert joined.joined

    async def vote(self, directory: Path, voter: Voter) -> None:
        state = ReplicatedState()
        port = int(voter.address.rpartition(":")[2])
        self.engine = RaftEngine(
            EngineSettings(directory, ("127.0.0.1", port), (KEY,), BRISK), state
        )
        await self.engine.start()
        duties = LeaseDuties(self.engine, state, SystemBootClock(), TIMES)
        self._running = asyncio.create_task(duties.run())
        access = LocalAccess(self.engine, state, duties.renew)
        self.service = ConsensusService(self.engine, access, self.caller)

    async def close(self, *, politely: bool = True) -> None:
        self.service = None
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        if politely:
            await self.leases.close()
        await self.streams.close()
        if self.engine is not None:
            await self.engine.stop()
        await self.gossip.close()

    def _member(self, voter: str) -> Member | None:
        return self.gossip.protocol.table.get(self._names[voter])


class Fleet:
    """Three voters and as many others as one likes."""

    def __init__(self, root: Path) -> None:
        ports, cluster = PortPicker(), uuid4()
        self._root = root
        self.all = tuple(Voter(str(uuid4()), f"127.0.0.1:{ports.pick()}") for _ in range(3))
        self.names = {voter.id: f"voter-{n}" for n, voter in enumerate(self.all)}
        self.voters: dict[str, Node] = {}
        self.others: list[Node] = []
        for voter in self.all:
            (root / voter.id).mkdir()
            identity = Identity(cluster, UUID(voter.id))
            create(root / voter.id, identity, self.all, ReplicatedState().snapshot())

    async def start(self) -> None:
        for voter in self.all:
            node = Node(self.names[voter.id], self.names)
            await node.start(next(iter(self.voters.values()), None))
            self.voters[voter.id] = node
            await node.vote(self._root / voter.id, voter)

    async def other(self) -> Node:
        node = Node(f"other-{len(self.others)}", self.names)
        await node.start(next(iter(self.voters.values())))
        self.others.append(node)
        return node

    async def led_by(self) -> str:
        def find() -> list[str]:
            return [
                voter
                for voter, node in self.voters.items()
                if node.engine is not None and node.engine.status.role is Role.LEADER
            ]

        await until_so(find, DEADLINE, "a leader")
        return find()[0]

    async def close(self) -> None:
        for node in [*self.others, *self.voters.values()]:
            await node.close()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def test_any_voter_will_do(fleet: Fleet) -> None:
    leader = await fleet.led_by()
    follower = next(voter for voter in fleet.voters if voter != leader)
    node = await fleet.other()
    # Only a follower is known, which asks the leader in its place.
    node.order = [follower]
    revision = await node.store.put("a", b"1", timeout=DEADLINE)
    with pytest.raises(CompareFailed):
        await node.store.compare_and_set("a", b"x", revision + 1)
    status = await node.access.status(follower, timeout=5)
    assert status.me == follower
    assert status.leader is not None
    assert status.leader.id == leader
    # A voter asks itself, and not over the network.
    entry = await fleet.voters[follower].store.get("a")
    assert entry is not None
    assert entry.value == b"1"
    assert fleet.voters[follower].gossip.streams.stats.opened == 1


async def test_a_whole_store_fits_through(fleet: Fleet) -> None:
    await fleet.led_by()
    node = await fleet.other()
    values = {f"key-{n:03}": bytes([n]) * MAX_VALUE for n in range(100)}
    for key, value in values.items():
        await node.store.put(key, value, timeout=DEADLINE)
    for stale in (False, True):
        entries = await node.store.list("key-", stale=stale, timeout=DEADLINE)
        assert {entry.key: entry.value for entry in entries} == values


async def test_the_leader_dies_and_the_others_are_asked(fleet: Fleet) -> None:
    leader = await fleet.led_by()
    one, two = await fleet.other(), await fleet.other()
    for node in (one, two):
        node.order, node.hint = [leader, *(each for each in fleet.voters if each != leader)], leader
    seen: list[bytes] = []

    async def watch() -> None:
        async for changes in two.store.watch("a"):
            seen.extend(entry.value for entry in changes.entries)

    watching = asyncio.create_task(watch())
    revision = await one.store.put("a", b"0", timeout=DEADLINE)
    async with one.leases.hold("dns") as lease:
        await fleet.voters.pop(leader).close(politely=False)
        for number in range(1, 30):
            revision = await two.store.compare_and_set(
                "a", str(number).encode(), revision, timeout=DEADLINE
            )
        left = lease.remaining
        await until_so(lambda: lease.remaining > left, DEADLINE, "a renewal by the new leader")
    await until_so(lambda: seen[-1:] == [b"29"], DEADLINE, "the watcher")
    watching.cancel()
    await asyncio.wait([watching])


async def test_a_lease_that_is_released_is_taken_over_at_once(fleet: Fleet) -> None:
    leader = await fleet.led_by()
    one, two = await fleet.other(), await fleet.other()
    one.hint = two.hint = leader
    taken: list[float] = []

    async def take() -> None:
        async with two.leases.hold("dns"):
            taken.append(time.perf_counter())

    times = []
    for _ in range(10):
        async with one.leases.hold("dns"):
            taking = asyncio.create_task(take())
            await until_so(lambda: two.caller.waiting, DEADLINE, "one who waits for the lease")
        released = time.perf_counter()
        await taking
        times.append(taken.pop() - released)
    assert sorted(times)[5] < 0.2


async def test_who_votes_no_more_says_so(fleet: Fleet) -> None:
    await fleet.led_by()
    node = await fleet.other()
    for voter in fleet.voters.values():
        voter.service = None
    with pytest.raises(Unavailable):
        await node.store.get("a", timeout=0.5)


async def test_somebody_with_the_key_does_no_harm(fleet: Fleet) -> None:
    """Forbidden operations, nonsense, everything at once, and whole stores that nobody reads."""
    leader = await fleet.led_by()
    node, bad = await fleet.other(), await fleet.other()
    node.hint = leader
    for number in range(60):
        await node.store.put(f"key-{number}", bytes(MAX_VALUE), timeout=DEADLINE)
    async with node.leases.hold("dns") as lease:
        target = bad.gossip.protocol.table.get(fleet.names[leader])
        assert target is not None
        chance = Random(1)
        before = resident()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(40):
                tasks.create_task(attack(bad, target, lease.epoch, chance))
            entry = await node.store.get("key-1", timeout=DEADLINE)
            assert entry is not None
        assert resident() - before < 200 * 1024 * 1024
        lease.check()
        revision = await node.store.put("after", b"", timeout=DEADLINE)
        # Nothing of it was carried out: the counters stand where the writes put them.
        assert revision == 62
        for voter in fleet.voters.values():
            assert voter.engine is not None
            assert voter.engine.status.failure is None
            assert voter.service is not None
            await until_so(lambda service=voter.service: not service.busy, DEADLINE, "its end")


async def attack(node: Node, target: Member, epoch: int, chance: Random) -> None:
    whole = Query(Space.KEYS, "", exact=False)
    bodies = [
        Propose(encode(Recover(1 << 30))),
        Propose(encode(RaiseVersion(99))),
        Propose(encode(Expire(epoch, 0))),
        Propose(encode(Renew((epoch,)))),
        Propose(chance.randbytes(60_000)),
        Ask(whole, linearizable=False, wait=60.0),
        Ask(whole, linearizable=True, wait=0.0),
        Ask(replace(whole, after=1 << 62), linearizable=False, wait=60.0),
        RenewLeases(tuple(chance.getrandbits(62) + 1 for _ in range(MAX_EPOCHS))),
    ]
    with contextlib.suppress(StreamError):
        async with node.gossip.streams.open(target, SERVICE, timeout=3.0) as stream:
            for number in range(400):
                body = chance.choice(bodies)
                request = encode_request(Request(body, 60.0, forwarded=chance.random() < 0.5))
                if chance.random() < 0.1:
                    request = chance.randbytes(chance.randint(0, 1000))
                await stream.send(number.to_bytes(8, "big") + request)
            # And not one answer is read.
            await asyncio.Event().wait()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
