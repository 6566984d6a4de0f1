"""Agents that decide among themselves who votes, in one process: a membership and a network.

The membership is as slow and as wrong as one is: news takes a while, and who is not heard of for
some time is declared dead. Requests are lost, delayed and repeated. With engines that are real
all of it works in real time as well::

    fleet = Fleet(root, random, clock, conditions)
    fleet.add("a", VoterSettings("a", "eu", "127.0.0.1:7001", voters=3))
    async with fleet.running():
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.voters.lifecycle import VoterLifecycle
from constellation_core.consensus.voters.network import (
    Candidate,
    Engines,
    UnreachableError,
)
from constellation_core.consensus.voters.settings import VoterSettings
from constellation_core.consensus.voters.status import Standing


@dataclass(slots=True)
class FleetConditions:
    """How things are; may be changed at any time.

    Attributes:
        loss: share of requests, and of answers, that are lost.
        repeats: share of requests that arrive a second time.
        latency: shortest and longest time of a request or an answer, in seconds.
        news: share of news that is heard in a round of the membership.
        patience: seconds after which who is not heard of is declared dead.
        cut: pairs of agents between which nothing passes.
    """

    loss: float = 0.0
    repeats: float = 0.0
    latency: tuple[float, float] = (0.0, 0.0)
    news: float = 1.0
    patience: float = 3.0
    cut: set[frozenset[str]] = field(default_factory=set)


@dataclass(slots=True)
class _Heard:
    standing: Standing
    settings: VoterSettings
    last: float
    since: float
    alive: bool = True


class FleetAgent:
    """One agent: its lifecycle while it is up, and what it has heard of the others.

    Attributes:
        changed: called when its standing, or its voter, changed.
    """

    def __init__(self, fleet: Fleet, settings: VoterSettings, engines: Engines) -> None:
        self.name = settings.name
        self.settings = settings
        self.engines = engines
        self.directory = fleet.root / settings.name
        self.lifecycle: VoterLifecycle | None = None
        self.task: asyncio.Task[None] | None = None
        self.changed: Callable[[], None] = lambda: None
        self.heard: dict[str, _Heard] = {}
        self._fleet = fleet

    # The membership, as it is given to the lifecycle.

    def candidates(self) -> tuple[Candidate, ...]:
        """The others."""
        return tuple(
            Candidate(
                name,
                heard.settings.region,
                heard.standing.address,
                heard.alive,
                heard.since,
                heard.standing.part,
                heard.standing.willing,
                heard.standing.id,
                heard.standing.cluster,
                heard.standing.wanted,
                heard.standing.operations,
            )
            for name, heard in sorted(self.heard.items())
        )

    @property
    def joined(self) -> bool:
        """Whether it has met anybody, or there is nobody to meet."""
        return bool(self.heard) or len(self._fleet.agents) == 1

    async def call(self, node: str, request: bytes, *, timeout: float) -> bytes:
        """See :class:`~constellation_core.consensus.voters.network.Caller`."""
        return await self._fleet.carry(self.name, node, request, timeout)

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.lifecycle is not None

    @property
    def standing(self) -> Standing:
        """How it stands; it must be up."""
        if self.lifecycle is None:
            raise ValueError(f"{self.name} is down")
        return self.lifecycle.standing


class Fleet:
    """Agents on one network.

    Args:
        root: an empty directory.
        random: all chance comes from it.
        clock: of all machines.
        conditions: how things are.
    """

    def __init__(
        self,
        root: Path,
        random: Random,
        clock: BootClock,
        conditions: FleetConditions | None = None,
    ) -> None:
        self.root = root
        self.conditions = conditions or FleetConditions()
        self.agents: dict[str, FleetAgent] = {}
        self._random = random
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    def add(self, settings: VoterSettings, engines: Engines) -> FleetAgent:
        """A machine; its agent is not started yet."""
        agent = FleetAgent(self, settings, engines)
        self.agents[settings.name] = agent
        return agent

    def start(self, name: str, settings: VoterSettings | None = None) -> None:
        """Start an agent, with what its disk has; perhaps with other settings."""
        agent = self.agents[name]
        agent.settings = settings or agent.settings
        agent.heard = {}
        agent.lifecycle = VoterLifecycle(
            agent.directory,
            agent.settings,
            agent,
            agent,
            agent.engines,
            self._clock,
            self._random,
            changed=agent.changed,
        )
        agent.task = asyncio.create_task(agent.lifecycle.run(), name=name)

    async def stop(self, name: str) -> None:
        """End an agent at once, as a crash does."""
        agent = self.agents[name]
        agent.lifecycle = None
        if agent.task is not None:
            agent.task.cancel()
            await asyncio.wait([agent.task])
            if not agent.task.cancelled():
                agent.task.result()
            agent.task = None

    def wipe(self, name: str) -> None:
        """Lose the disk of an agent that is down."""
        shutil.rmtree(self.agents[name].directory, ignore_errors=True)

    def linked(self, one: str, other: str) -> bool:
        """Whether two machines reach each other."""
        return one == other or frozenset((one, other)) not in self.conditions.cut

    @contextlib.asynccontextmanager
    async def running(self, turn: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Run the membership, and ``turn`` a few times a second; stop all agents at the end."""

        async def spread() -> None:
            while True:
                turn()
                for agent in self.agents.values():
                    if agent.up:
                        self._hear(agent)
                await self._clock.sleep(0.25)

        spreading = asyncio.create_task(spread())
        try:
            yield
            if spreading.done():
                spreading.result()
        finally:
            spreading.cancel()
            for name in self.agents:
                await self.stop(name)
            for each in (spreading, *self._late):
                each.cancel()
            await asyncio.wait([spreading, *self._late])

    def _hear(self, agent: FleetAgent) -> None:
        now = self._clock.boottime()
        for name, other in self.agents.items():
            heard = agent.heard.get(name)
            if other is agent:
                continue
            if other.up and self.linked(agent.name, name):
                if self._random.random() < self.conditions.news:
                    since = heard.since if heard is not None and heard.alive else now
                    agent.heard[name] = _Heard(other.standing, other.settings, now, since)
            elif heard is not None and heard.alive and now - heard.last > self.conditions.patience:
                agent.heard[name] = replace(heard, alive=False, since=now)

    async def carry(self, sender: str, receiver: str, request: bytes, timeout: float) -> bytes:
        """Carry a request to an agent, and its answer back.

        Raises:
            UnreachableError: one of them was lost, or came too late.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._pass(sender, receiver)
                if self._random.random() < self.conditions.repeats:
                    self._repeat(receiver, request)
                answer = await self._deliver(receiver, request)
                await self._pass(receiver, sender)
                return answer
        except TimeoutError:
            raise UnreachableError(f"{receiver} does not answer") from None

    async def _pass(self, sender: str, receiver: str) -> None:
        await self._clock.sleep(self._random.uniform(*self.conditions.latency))
        lost = self._random.random() < self.conditions.loss
        if lost or not self.linked(sender, receiver):
            raise UnreachableError(f"{receiver} is not reached")

    async def _deliver(self, receiver: str, request: bytes) -> bytes:
        agent = self.agents.get(receiver)
        if agent is None or agent.lifecycle is None:
            raise UnreachableError(f"{receiver} is not reached")
        return await agent.lifecycle.answer(request)

    def _repeat(self, receiver: str, request: bytes) -> None:
        async def later() -> None:
            await self._clock.sleep(self._random.uniform(0, 20))
            with contextlib.suppress(UnreachableError):
                await self._deliver(receiver, request)

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
