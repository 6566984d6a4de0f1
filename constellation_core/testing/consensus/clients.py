"""Clients of simulated voters, over a network that loses, delays and repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.leases import LeaseDuties, LeaseTimes
from constellation_core.consensus.leases.lease import Tenure
from constellation_core.consensus.remote import (
    ConsensusService,
    LocalFirst,
    LostError,
    NotReachedError,
    RemoteAccess,
)
from constellation_core.consensus.remote.network import Messages
from constellation_core.consensus.remote.wire import Failure, decode_reply
from constellation_core.testing.consensus.group import (
    SimulatedGroup,
    SimulatedHost,
    SimulatedVoter,
)


@dataclass(slots=True)
class LinkConditions:
    """What happens between clients and voters; may be changed at any time.

    Attributes:
        latency: shortest and longest time that a message travels, in seconds.
        loss: share of messages that are lost, 0 to 1; of requests and of replies alike.
        duplication: share of requests that arrive a second time. Their senders get no reply that
            nothing was done, since the second one may yet be carried out.
        lateness: longest time until they do, in seconds.
        stalls: share of replies at whose arrival the client's machine stands still for a while.
        stall: shortest and longest time for which it does, in seconds.
        cut: names of clients that reach nobody.
        rumours: share of a client's looks at who votes and leads that are wrong.
        honest: whether who gets no reply says so; else that the request did not arrive.
    """

    latency: tuple[float, float] = (0.0005, 0.01)
    loss: float = 0.0
    duplication: float = 0.0
    lateness: float = 60.0
    stalls: float = 0.0
    stall: tuple[float, float] = (0.1, 20.0)
    cut: frozenset[str] = frozenset()
    rumours: float = 0.0
    honest: bool = True


class SimulatedServer:
    """What runs on a voter: the leader's duties, and answers for clients, with one hop.

    Attributes:
        votes: whether this is a voter at the moment; else it answers nobody.

    Args:
        voter: the engine.
        network: the way to the other voters.
        times: of the leases.
    """

    def __init__(self, voter: SimulatedVoter, network: ClientNetwork, times: LeaseTimes) -> None:
        self.votes = True
        self.voter = voter
        self.duties = LeaseDuties(voter, voter.state, voter.host, times)
        access = LocalAccess(voter, voter.state, self.duties.renew)
        caller = SimulatedCaller(voter.name, voter.host, network)
        self.service = ConsensusService(voter, access, caller)

    async def serve(self, request: bytes) -> Messages | None:
        """The reply, if there is one."""
        messages: list[bytes] = []

        async def keep(message: bytes, last: bool) -> None:  # noqa: ARG001
            messages.append(message)

        await self.voter.host.gate()
        await self.service.serve(request, keep)
        await self.voter.host.gate()
        return messages or None


class ClientNetwork:
    """Voters with their servers, and the links to them.

    Args:
        group: the voters.
        times: of the leases.
    """

    def __init__(self, group: SimulatedGroup, times: LeaseTimes) -> None:
        self.conditions = LinkConditions()
        self.group = group
        self._random = group.random
        self._dead: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.servers = {
            name: SimulatedServer(voter, self, times) for name, voter in group.voters.items()
        }

    def client(self, name: str, host: SimulatedHost) -> RemoteAccess:
        """A client on ``host``, which may be that of a voter."""
        here = [server for server in self.servers.values() if server.voter.host is host]
        caller = LocalFirst(
            SimulatedCaller(name, host, self, stalls=not here),
            lambda: here[0].service if here and here[0].votes else None,
        )
        return RemoteAccess(SimulatedDirectory(self), caller, host)

    def forget(self, name: str) -> None:
        """Nothing more is sent by this client or to it."""
        self._dead.add(name)

    def stall(self, host: SimulatedHost) -> None:
        """Perhaps let the machine stand still."""
        if self._random.random() < self.conditions.stalls and not host.paused:
            host.pause()
            delay = self._random.uniform(*self.conditions.stall)
            asyncio.get_running_loop().call_later(delay, host.resume)

    async def call(self, name: str, voter: str, request: bytes, timeout: float) -> Messages:
        """Send a request to a voter; the reply, if it comes.

        Raises:
            NotReachedError: nothing arrived and nothing will.
            LostError: a message was lost, or the time is over.
        """
        server = self.servers.get(voter)
        if server is None or not server.votes or self._refuses(server):
            raise NotReachedError(f"no {voter}")
        reply: asyncio.Future[Messages] = asyncio.get_running_loop().create_future()
        twice = self._random.random() < self.conditions.duplication
        self._send(name, server, request, self._latency(), reply, twice)
        if twice:
            late = self._random.uniform(0, self.conditions.lateness)
            self._send(name, server, request, late, None, twice)
        try:
            async with asyncio.timeout(timeout):
                return await reply
        except TimeoutError:
            if self.conditions.honest:
                raise LostError("no reply in time") from None
            raise NotReachedError("no reply in time") from None

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _refuses(self, server: SimulatedServer) -> bool:
        return not server.voter.up and self._random.random() < 0.5

    def _send(
        self,
        name: str,
        server: SimulatedServer,
        request: bytes,
        delay: float,
        reply: asyncio.Future[Messages] | None,
        twice: bool,
    ) -> None:
        if self._lost(name):
            return
        task = asyncio.create_task(self._deliver(name, server, request, delay, reply, twice))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(
        self,
        name: str,
        server: SimulatedServer,
        request: bytes,
        delay: float,
        reply: asyncio.Future[Messages] | None,
        twice: bool,
    ) -> None:
        await asyncio.sleep(delay)
        messages = await server.serve(request)
        await asyncio.sleep(self._latency())
        if messages is None or reply is None or reply.done() or self._lost(name):
            return
        if not (twice and isinstance(decode_reply(messages), Failure)):
            reply.set_result(messages)

    def _lost(self, name: str) -> bool:
        if name in self._dead or name in self.conditions.cut:
            return True
        return self._random.random() < self.conditions.loss

    def _latency(self) -> float:
        return self._random.uniform(*self.conditions.latency)


class SimulatedCaller:
    """A :class:`~constellation_core.consensus.remote.Caller` over a simulated network.

    Args:
        name: who calls.
        host: where.
        network: what is between.
        stalls: whether the machine may stand still just when a reply comes.
    """

    def __init__(
        self, name: str, host: SimulatedHost, network: ClientNetwork, *, stalls: bool = False
    ) -> None:
        self._name = name
        self._host = host
        self._network = network
        self._stalls = stalls

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Messages:
        """As the caller's."""
        await self._host.gate()
        try:
            return await self._network.call(self._name, voter, request, timeout)
        finally:
            # What came in while the machine stood still is seen when it goes on.
            if self._stalls:
                self._network.stall(self._host)
            await self._host.gate()


class SimulatedDirectory:
    """Knows who votes and who leads, but for rumours."""

    def __init__(self, network: ClientNetwork) -> None:
        self._network = network
        self._group = network.group
        self._random = network.group.random

    def voters(self) -> list[str]:
        """As the directory's; by rumour some are missing, and one is none."""
        known = list(self._group.voters)
        if self._wrong():
            known.append("stranger")
            self._random.shuffle(known)
            return known[: self._random.randint(1, len(known))]
        return known

    def leader(self) -> str | None:
        """As the directory's; by rumour anybody."""
        if self._wrong():
            return self._random.choice([None, "stranger", *self._group.voters])
        return self._group.leader.name if self._group.leader is not None else None

    def _wrong(self) -> bool:
        return self._random.random() < self._network.conditions.rumours


class HostWatchdog:
    """A :class:`~constellation_core.consensus.leases.Watchdog` on a simulated machine."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._guards: set[asyncio.Task[None]] = set()

    def guard(self, tenure: Tenure, over: Callable[[], None]) -> Callable[[], bool]:
        """As the watchdog's."""
        task = asyncio.create_task(self._watch(tenure, over))
        self._guards.add(task)

        def call_off() -> bool:
            task.cancel()
            in_time = task in self._guards
            self._guards.discard(task)
            return in_time

        return call_off

    async def _watch(self, tenure: Tenure, over: Callable[[], None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        while (left := tenure.left()) > 0:
            await self._host.sleep(left)
        if task in self._guards:
            self._guards.discard(task)
            over()
