"""The built-in consensus of an agent: its part among the voters, and its way to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from constellation_core.agent.consensus import streams, tags
from constellation_core.agent.consensus.describe import describe
from constellation_core.agent.consensus.fleet import Fleet, Own
from constellation_core.agent.consensus.questions import Questions
from constellation_core.agent.consensus.usefulness import NotedAccess
from constellation_core.consensus import backups
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import EngineStatus, Role, Unavailable
from constellation_core.consensus.leases import Leases, ThreadWatchdog, holder_id
from constellation_core.consensus.remote import ConsensusService, LocalFirst, RemoteAccess
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.store import Store
from constellation_core.consensus.voters.builtin import BuiltinEngines
from constellation_core.consensus.voters.lifecycle import VoterLifecycle
from constellation_core.consensus.voters.settings import VoterSettings, VoterTimes
from constellation_core.consensus.voters.status import RunningVoter, Standing
from constellation_core.gossip import Gossip

log = logging.getLogger("constellation.consensus")

_LOOK = 1.0
"""Seconds between two looks at what is to be told to the others."""

_ANSWERING = (Role.LEADER, Role.FOLLOWER, Role.CANDIDATE)
"""Who is to be added yet, or was removed, knows nothing that anybody should be told."""


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """What an agent's settings say of the built-in consensus.

    Attributes:
        directory: for its files.
        bind: IP literal and port for the other voters.
        key: 32 bytes, the same on all agents.
        region: where this agent is.
        voters: how many are wanted.
        vote: whether this agent may be one.
        times: patience.
    """

    directory: Path
    bind: tuple[str, int]
    key: bytes
    region: str
    voters: int
    vote: bool
    times: VoterTimes


class RaftConsensus:
    """A :class:`~constellation_core.consensus.backend.ConsensusBackend` of the fleet's own voters.

    Args:
        settings: this agent's.
        gossip: the membership, and the way to the other agents.
        clock: the boot-time clock.
        address: ``IP:port`` at which other voters reach this one, as it is thought to be now.
        address_found: waits until :attr:`address` has had time to be found out.
        told_of_others: whether the settings name other agents.
        tell: takes the text of the gossip tag :data:`~.tags.TAG`.

    Attributes:
        store: keys and values.
        leases: this agent's.
        fleet: the other agents' parts.
    """

    name = tags.RAFT

    def __init__(
        self,
        settings: RaftSettings,
        gossip: Gossip,
        clock: BootClock,
        address: Callable[[], str],
        address_found: Callable[[], Awaitable[None]],
        told_of_others: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self._gossip = gossip
        self._clock = clock
        self._address = address
        self._address_found = address_found
        self._tell = tell
        self._told = ""
        self._lifecycle: VoterLifecycle | None = None
        self._service: tuple[RunningVoter, ConsensusService] | None = None
        self._questions = Questions(gossip)
        self.fleet = Fleet(gossip, clock, told_of_others, self._own)
        self._caller = streams.StreamCaller(gossip.streams, self.fleet.member)
        local_first = LocalFirst(self._caller, self._serving)
        self._access = NotedAccess(RemoteAccess(self.fleet, local_first, clock), clock)
        random = SystemRandom()
        requests = Requests(self._access, clock, random)
        self.store = Store(self._access, requests, clock, random)
        self.leases = Leases(
            self._access,
            requests,
            clock,
            random,
            ThreadWatchdog(),
            holder=holder_id(gossip.local.name, random),
        )

    # --- how it stands --------------------------------------------------------------------------

    @property
    def standing(self) -> Standing | None:
        """This agent's part; ``None`` before it has begun."""
        return self._lifecycle.standing if self._lifecycle is not None else None

    @property
    def voter(self) -> RunningVoter | None:
        """This agent's voter, while it takes part."""
        running = self._lifecycle.voter if self._lifecycle is not None else None
        return running if running is not None and running.status.role in _ANSWERING else None

    def trouble(self) -> str | None:
        """Why this agent's requests failed lately, if they did."""
        return self._access.trouble()

    def describe(self) -> Mapping[str, Any]:
        """See :meth:`~constellation_core.consensus.backend.ConsensusBackend.describe`."""
        return describe(self, self._gossip.local.name)

    async def backup(self, at: float) -> bytes:
        """A backup from this agent's voter, taken ``at`` these seconds since 1970.

        Raises:
            Unavailable: this agent has no voter that runs.
        """
        running, standing = self.voter, self.standing
        if running is None or standing is None or standing.cluster is None:
            raise Unavailable("this agent does not vote, so it holds no copy")
        return await backups.take(running.engine, running.state, cluster=standing.cluster, at=at)

    # --- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take part until cancelled."""
        await self._address_found()
        with contextlib.ExitStack() as stack:
            stack.callback(self._questions.serve(self._answer))
            stack.callback(streams.serve(self._gossip.streams, self._serving))
            try:
                while True:
                    await self._take_part(self._address())
            finally:
                await self._caller.close()

    async def close(self) -> None:
        """End all blocks that hold a lease, and release what they held."""
        await self.leases.close()

    async def _take_part(self, address: str) -> None:
        """Until this agent is reached at another address."""
        settings = self.settings
        self._lifecycle = lifecycle = VoterLifecycle(
            settings.directory,
            VoterSettings(
                self._gossip.local.name,
                settings.region,
                address,
                settings.voters,
                settings.vote,
                settings.times,
            ),
            self.fleet,
            self._questions,
            BuiltinEngines(settings.bind, [settings.key]),
            self._clock,
            Random(SystemRandom().getrandbits(128)),
            changed=self._publish,
        )
        running = asyncio.create_task(lifecycle.run(), name="voter-lifecycle")
        try:
            while self._address() == address and not running.done():
                self._publish()
                await asyncio.wait([running], timeout=_LOOK)
        finally:
            # First of all, so that another voter leads before this one is gone.
            await lifecycle.close()
            running.cancel()
            await asyncio.wait([running])
        if not running.cancelled():
            running.result()
        log.info("other voters reach this agent at %s now", self._address())

    # --- inside ---------------------------------------------------------------------------------

    async def _answer(self, request: bytes) -> bytes:
        if self._lifecycle is None:
            # A caller takes it for an agent that is not reached.
            raise ConnectionError("this agent has not begun yet")
        return await self._lifecycle.answer(request)

    def _serving(self) -> ConsensusService | None:
        running = self.voter
        if running is None:
            self._service = None
            return None
        if self._service is None or self._service[0] is not running:
            service = ConsensusService(running.engine, running.access, self._caller)
            self._service = (running, service)
        return self._service[1]

    def _own(self) -> Own:
        standing, running = self.standing, self.voter
        return Own(
            standing.cluster if standing is not None else None,
            running.status if running is not None else None,
        )

    def _publish(self) -> None:
        standing = self.standing
        if standing is None:
            return
        tag = tags.encode(standing, _leads(self.voter))
        if tag != self._told:
            self._told = tag
            self._tell(tag)


def _leads(running: RunningVoter | None) -> int | None:
    """The term in which a voter leads."""
    status: EngineStatus | None = running.status if running is not None else None
    return status.term if status is not None and status.role is Role.LEADER else None
