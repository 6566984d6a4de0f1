"""Clients of simulated voters, over a network that loses, delays and repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from constellation_core.consensus.access import LocalAccess, Renewal
from constellation_core.consensus.interface import ConsensusError, NotLeader, Unknown
from constellation_core.consensus.leases import LeaseDuties, LeaseTimes
from constellation_core.consensus.leases.lease import Tenure
from constellation_core.consensus.state import Answer, Query
from constellation_core.testing.consensus.group import (
    SimulatedGroup,
    SimulatedHost,
    SimulatedVoter,
)

T = TypeVar("T")
Call = Callable[["SimulatedServer"], Awaitable[T]]


@dataclass(slots=True)
class LinkConditions:
    """What happens between clients and voters; may be changed at any time.

    Attributes:
        latency: shortest and longest time that a message travels, in seconds.
        loss: share of messages that are lost, 0 to 1; of requests and of replies alike.
        duplication: share of requests that arrive a second time. Their senders are never told that
            nothing was done, since the second one may yet be carried out.
        lateness: longest time until they do, in seconds.
        stalls: share of replies at whose arrival the client's machine stands still for a while.
        stall: shortest and longest time for which it does, in seconds.
        cut: names of clients that reach nobody.
    """

    latency: tuple[float, float] = (0.0005, 0.01)
    loss: float = 0.0
    duplication: float = 0.0
    lateness: float = 60.0
    stalls: float = 0.0
    stall: tuple[float, float] = (0.1, 20.0)
    cut: frozenset[str] = frozenset()


class SimulatedServer:
    """What runs on a voter: the leader's duties, and answers for clients, with one hop.

    Args:
        voter: the engine.
        servers: those of all voters, by name.
        times: of the leases.
    """

    def __init__(
        self,
        voter: SimulatedVoter,
        servers: dict[str, SimulatedServer],
        times: LeaseTimes,
    ) -> None:
        self.duties = LeaseDuties(voter, voter.state, voter.host, times)
        self.access = LocalAccess(voter, voter.state, self.duties.renew)
        self.voter = voter
        self._servers = servers

    async def serve(self, call: Call[T]) -> T:
        """Answer here, or at the leader that this voter knows."""
        await self.voter.host.gate()
        try:
            return await call(self)
        except NotLeader as error:
            if error.hint is None or error.hint.id == self.voter.name:
                raise
            leader = self._servers[error.hint.id]
            await leader.voter.host.gate()
            return await call(leader)


class ClientNetwork:
    """Voters with their servers, and the links to them.

    Args:
        group: the voters.
        times: of the leases.
    """

    def __init__(self, group: SimulatedGroup, times: LeaseTimes) -> None:
        self.conditions = LinkConditions()
        self.servers: dict[str, SimulatedServer] = {}
        self._random = group.random
        self._dead: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        for name, voter in group.voters.items():
            self.servers[name] = SimulatedServer(voter, self.servers, times)

    def client(self, name: str, host: SimulatedHost) -> SimulatedAccess:
        """A client on ``host``."""
        return SimulatedAccess(name, host, self)

    def forget(self, name: str) -> None:
        """Nothing more is sent by this client or to it."""
        self._dead.add(name)

    def stall(self, host: SimulatedHost) -> None:
        """Perhaps let the machine stand still."""
        if self._random.random() < self.conditions.stalls and not host.paused:
            host.pause()
            delay = self._random.uniform(*self.conditions.stall)
            asyncio.get_running_loop().call_later(delay, host.resume)

    async def call(self, name: str, call: Call[T], timeout: float) -> T:
        """Send a request to some voter; the reply, as far as there is one.

        Raises:
            Unknown: a message was lost, or the time is over.
        """
        reply: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        server = self._random.choice(list(self.servers.values()))
        twice = self._random.random() < self.conditions.duplication
        self._send(name, server, call, self._latency(), reply, twice)
        if twice:
            late = self._random.uniform(0, self.conditions.lateness)
            self._send(name, server, call, late, None, twice)
        try:
            async with asyncio.timeout(timeout):
                return await reply
        except TimeoutError:
            raise Unknown("no reply in time") from None

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(
        self,
        name: str,
        server: SimulatedServer,
        call: Call[T],
        delay: float,
        reply: asyncio.Future[T] | None,
        twice: bool,
    ) -> None:
        if self._lost(name):
            return
        task = asyncio.create_task(self._deliver(name, server, call, delay, reply, twice))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(
        self,
        name: str,
        server: SimulatedServer,
        call: Call[T],
        delay: float,
        reply: asyncio.Future[T] | None,
        twice: bool,
    ) -> None:
        await asyncio.sleep(delay)
        result: T | None = None
        failure: ConsensusError | None = None
        try:
            result = await server.serve(call)
        except ConsensusError as error:
            failure = error
        await asyncio.sleep(self._latency())
        if reply is None or reply.done() or self._lost(name):
            return
        if failure is not None:
            if not twice:
                reply.set_exception(failure)
        else:
            reply.set_result(result)  # type: ignore[arg-type]

    def _lost(self, name: str) -> bool:
        if name in self._dead or name in self.conditions.cut:
            return True
        return self._random.random() < self.conditions.loss

    def _latency(self) -> float:
        return self._random.uniform(*self.conditions.latency)


class SimulatedAccess:
    """An :class:`~constellation_core.consensus.access.Access` over a simulated network."""

    def __init__(self, name: str, host: SimulatedHost, network: ClientNetwork) -> None:
        self._name = name
        self._host = host
        self._network = network

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As the access's."""
        return await self._ask(
            lambda server: server.access.propose(operation, timeout=timeout), timeout
        )

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """As the access's."""
        return await self._ask(
            lambda server: server.access.query(
                query, linearizable=linearizable, wait=wait, timeout=timeout
            ),
            timeout + wait,
        )

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """As the access's."""
        return await self._ask(lambda server: server.access.renew(epochs, timeout=timeout), timeout)

    async def _ask(self, call: Call[T], timeout: float) -> T:
        await self._host.gate()
        try:
            return await self._network.call(self._name, call, timeout)
        finally:
            # What came in while the machine stood still is seen when it goes on.
            self._network.stall(self._host)
            await self._host.gate()


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
