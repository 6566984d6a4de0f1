"""etcd members in virtual time, with what this plugin has to withstand.

Raft is that of :mod:`constellation_core.testing.consensus.group`: proposals of a leader that is
deposed survive or not, and it goes on believing that it leads. As etcd's do, it answers keepalives
all the while.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from random import Random
from typing import Any

from constellation_core.consensus import ConsensusError, NotLeader, Unavailable, Unknown
from constellation_core.consensus.leases import LeaseTimes, holder_id
from constellation_core.testing.consensus.clients import HostWatchdog, LinkConditions
from constellation_core.testing.consensus.group import SimulatedHost, SimulatedVoter
from constellation_core.testing.consensus.world import World
from constellation_plugin_etcd.answers import Refusal
from constellation_plugin_etcd.backend import EtcdLeases
from constellation_plugin_etcd.client import EtcdClient
from constellation_plugin_etcd.store import EtcdStore
from constellation_plugin_etcd.testing.state import Document, EtcdState

PREFIX = b"/s/"

_TIMEOUT = 5.0
_TURN = 0.1


class SimulatedMember:
    """An etcd member on a voter.

    Args:
        voter: Raft.
        members: all of them, by name.
        random: chance.
    """

    def __init__(
        self, voter: SimulatedVoter, members: Mapping[str, SimulatedMember], random: Random
    ) -> None:
        self.voter = voter
        self.state = EtcdState()
        self._members = members
        self._random = random
        self._term: int | None = None
        self._due: dict[int, float] = {}
        voter.machine = self.state

    async def run(self) -> None:
        """End leases that are not renewed, as long as this one believes that it leads."""
        while True:
            await self.voter.host.sleep(_TURN)
            with contextlib.suppress(ConsensusError):
                await self._lead()

    async def call(self, path: str, body: Document, leader: bool) -> Document:
        """Answer a request."""
        await self.voter.host.gate()
        try:
            return await self._answer(path, body, leader)
        except NotLeader:
            raise Unknown("etcdserver: request timed out") from None

    async def _answer(self, path: str, body: Document, leader: bool) -> Document:
        if not self.voter.up:
            raise Unavailable("down")
        if leader and self._leader_name() is None:
            raise Refusal(14, "etcdserver: no leader")
        match path:
            case "/v3/kv/range":
                if not body.get("serializable"):
                    await self._catch_up()
                return self.state.range(body)
            case "/v3/lease/keepalive":
                return {"result": await self._keep_alive(int(body["ID"]))}
        answer: Document = json.loads(await self._propose(path, body))
        if "declined" in answer:
            raise Refusal(*answer["declined"])
        return answer

    async def events(self, body: Document) -> AsyncGenerator[Document, None]:
        """The elements of a watch."""
        start = int(body["start_revision"])
        yield {"header": self.state.header(), "created": True}
        applied = asyncio.Event()
        forget = self.voter.on_applied(lambda _: applied.set())
        try:
            while True:
                applied.clear()
                if not self.voter.up or self._leader_name() is None:
                    raise Refusal(14, "etcdserver: no leader")
                if start <= self.state.compacted:
                    revision = str(self.state.compacted + 1)
                    yield {"header": {}, "canceled": True, "compact_revision": revision}
                    return
                # More may happen while these are on their way.
                known = self.state.revision
                for element in self.state.events(body, start):
                    yield element
                start = max(start, known + 1)
                await applied.wait()
                await self.voter.host.gate()
        finally:
            forget()

    async def _lead(self) -> None:
        status, now = self.voter.status, self.voter.host.boottime()
        if self._leader_name() != self.voter.name:
            self._term = None
        elif self._term != status.term:
            # It takes office: all leases get their full time.
            await self._propose("no-op", {})
            if self.voter.status.term == status.term:
                self._term = status.term
                now = self.voter.host.boottime()
                self._due = {number: now + ttl for number, ttl in self.state.leases.items()}
        else:
            for number, ttl in self.state.leases.items():
                self._due.setdefault(number, now + ttl)
            for number in [n for n, due in self._due.items() if due <= now]:
                if number not in self.state.leases:
                    del self._due[number]
                else:
                    await self._propose("/v3/lease/revoke", {"ID": str(number)})

    async def _keep_alive(self, number: int) -> Document:
        answer = {"header": self.state.header(), "ID": str(number)}
        lessor, leader = self, self._leader_name()
        if leader is not None and not self._is_primary():
            lessor = self._members[leader]
            await lessor.voter.host.gate()
        if not lessor._is_primary():
            raise Unknown("etcdserver: not the primary lessor")
        ttl, now = lessor.state.leases.get(number), lessor.voter.host.boottime()
        if ttl is not None:
            if lessor._due.get(number, now) < now:
                # It is being revoked; etcd's answer waits for that.
                raise Unknown("the lease is over")
            lessor._due[number] = now + ttl
            answer["TTL"] = str(ttl)
        return answer

    async def _propose(self, path: str, body: Document) -> bytes:
        leader = self._leader()
        operation = json.dumps([leader.voter.status.term, path, body]).encode()
        return await leader.voter.propose(operation, timeout=_TIMEOUT)

    async def _catch_up(self) -> None:
        """Wait until all is carried out here that was acknowledged before."""
        index = await self._leader().voter.barrier(timeout=_TIMEOUT)
        while self.voter.status.applied_index < index:
            await self.voter.host.sleep(0.01)

    def _leader(self) -> SimulatedMember:
        leader = self._leader_name()
        if leader is None:
            raise Unknown("etcdserver: request timed out")
        return self._members[leader]

    def _leader_name(self) -> str | None:
        """Who it believes leads. Who has carried out an entry of a later term knows better."""
        status = self.voter.status
        if status.leader is None or status.term < self.state.term:
            return None
        return status.leader.id

    def _is_primary(self) -> bool:
        return self.voter.up and self._term is not None and self._term >= self.state.term


class SimulatedGateway:
    """A way to the members over a network that loses, delays and repeats.

    Args:
        name: the client's.
        host: the client's machine.
        site: the members.
    """

    def __init__(self, name: str, host: SimulatedHost, site: SimulatedEtcd) -> None:
        self._name = name
        self._host = host
        self._site = site

    async def call(
        self, path: str, body: Document, *, timeout: float, leader: bool = True
    ) -> Document:
        """As the gateway's; which member is asked is left to chance."""
        await self._host.gate()
        reply: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        conditions, random = self._site.conditions, self._site.random
        twice = random.random() < conditions.duplication
        self._site.spawn(self._deliver(path, body, leader, self._latency(), reply, twice))
        if twice:
            late = random.uniform(0, conditions.lateness)
            self._site.spawn(self._deliver(path, body, leader, late, None, twice))
        try:
            async with asyncio.timeout(timeout):
                return await reply
        except TimeoutError:
            raise Unknown("no answer in time") from None
        finally:
            # What came in while the machine stood still is seen when it goes on.
            self._site.stall(self._host)
            await self._host.gate()

    async def stream(
        self, path: str, body: Document, *, silence: float
    ) -> AsyncGenerator[Document, None]:
        """As the gateway's; only watches. What is said all comes, in order, or the link breaks."""
        assert path == "/v3/watch"
        await self._host.gate()
        elements = self._site.member(path).events(body["create_request"])
        try:
            while True:
                try:
                    async with asyncio.timeout(silence):
                        element = await anext(elements)
                        await asyncio.sleep(self._latency())
                except TimeoutError:
                    return
                except StopAsyncIteration:
                    raise Unavailable("the member ended it") from None
                await self._host.gate()
                if self._lost():
                    raise Unavailable("the connection broke")
                yield element
        finally:
            await elements.aclose()

    async def _deliver(
        self,
        path: str,
        body: Document,
        leader: bool,
        delay: float,
        reply: asyncio.Future[Document] | None,
        twice: bool,
    ) -> None:
        if self._lost():
            return
        await asyncio.sleep(delay)
        answer: Document | None = None
        failure: ConsensusError | None = None
        try:
            answer = await self._site.member(path).call(path, body, leader)
        except ConsensusError as error:
            failure = error
        await asyncio.sleep(self._latency())
        if reply is None or reply.done() or self._lost():
            return
        if answer is not None:
            reply.set_result(answer)
        elif not (twice and isinstance(failure, Unavailable)):
            # With a copy under way nobody may say that nothing was done.
            reply.set_exception(failure or Unknown("no answer"))

    def _lost(self) -> bool:
        return self._site.loses(self._name)

    def _latency(self) -> float:
        return self._site.random.uniform(*self._site.conditions.latency)


class SimulatedEtcd:
    """A :class:`~constellation_core.testing.consensus.sites.Site`: etcd on a world's voters."""

    def __init__(self, world: World) -> None:
        self.random = world.random
        self.members: dict[str, SimulatedMember] = {}
        for name, voter in world.group.voters.items():
            self.members[name] = SimulatedMember(voter, self.members, world.random)
        self._world = world
        self._dead: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def conditions(self) -> LinkConditions:
        """Those of the world's network."""
        return self._world.network.conditions

    def store(self, name: str, host: SimulatedHost) -> EtcdStore:
        """As the site's."""
        client = EtcdClient(SimulatedGateway(name, host, self))
        return EtcdStore(client, host, self.random, PREFIX)

    def leases(self, name: str, host: SimulatedHost, times: LeaseTimes) -> EtcdLeases:
        """As the site's."""
        return EtcdLeases(
            EtcdClient(SimulatedGateway(name, host, self)),
            host,
            self.random,
            HostWatchdog(host),
            prefix=PREFIX,
            holder=holder_id(name, self.random),
            times=times,
        )

    def forget(self, name: str) -> None:
        """As the site's."""
        self._dead.add(name)

    def stored(self) -> Mapping[str, bytes]:
        """As the site's."""
        prefix = PREFIX + b"keys/"
        end = prefix[:-1] + b"0"
        asked = {"key": base64.b64encode(prefix), "range_end": base64.b64encode(end)}
        found = self.members["v1"].state.range(asked)["kvs"]
        return {
            base64.b64decode(each["key"])[len(prefix) :].decode(): base64.b64decode(
                each.get("value", "")
            )
            for each in found
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """As the site's."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(member.run()) for member in self.members.values()]
            yield tasks
            for task in [*running, *self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def member(self, path: str) -> SimulatedMember:  # noqa: ARG002
        """Which one is asked."""
        return self.random.choice(list(self.members.values()))

    def loses(self, name: str) -> bool:
        """Whether a message of this client, or to it, is lost."""
        conditions = self.conditions
        if name in self._dead or name in conditions.cut:
            return True
        return bool(self.random.random() < conditions.loss)

    def stall(self, host: SimulatedHost) -> None:
        """Perhaps let the client's machine stand still."""
        self._world.network.stall(host)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a message travel."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
