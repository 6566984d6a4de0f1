"""An agent's part in consensus, from its start to its end.

An agent holds nothing at first. It founds a cluster with others, or learns that there is one; a
leader may make it a voter, and end that again. All of this happens while it runs, and what goes
wrong in it (a port in use, a full disk, damaged files) is said, and ends nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from uuid import UUID

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, Role
from constellation_core.consensus.leases import LeaseTimes
from constellation_core.consensus.state.operations import LATEST
from constellation_core.consensus.voters.answers import answer
from constellation_core.consensus.voters.asking import Asking
from constellation_core.consensus.voters.beginning import Beginning
from constellation_core.consensus.voters.clusters import Clusters
from constellation_core.consensus.voters.host import Host
from constellation_core.consensus.voters.memory import Memory
from constellation_core.consensus.voters.network import Caller, Engines, Membership, Part
from constellation_core.consensus.voters.node import Node
from constellation_core.consensus.voters.pilot import Pilot
from constellation_core.consensus.voters.record import Places
from constellation_core.consensus.voters.settings import VoterSettings
from constellation_core.consensus.voters.status import RunningVoter, Standing
from constellation_core.consensus.voters.wire import Reply, decode_request, encode_reply

log = logging.getLogger("constellation.consensus")

_NOBODY = str(UUID(int=0))
_CALM = 5
"""An agent that neither votes nor founds looks that much less often."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What there is once the disk was read."""

    node: Node
    beginning: Beginning
    clusters: Clusters


class VoterLifecycle:
    """Keeps this agent's part in consensus.

    Args:
        directory: the agent's for consensus; made if it is missing.
        settings: who this agent is, and how many voters there are to be.
        membership: the other agents.
        caller: asks them.
        engines: makes this machine's engine.
        clock: this machine's; :attr:`~.network.Candidate.since` counts in it.
        random: for UUIDs; not to be guessed or repeated.
        lease_times: of the leases.
        changed: called in the event loop after ``standing`` or ``voter`` changed.
    """

    def __init__(
        self,
        directory: Path,
        settings: VoterSettings,
        membership: Membership,
        caller: Caller,
        engines: Engines,
        clock: BootClock,
        random: Random,
        lease_times: LeaseTimes | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._places = Places(directory)
        self._settings = settings
        self._membership = membership
        self._asking = Asking(caller, settings.times.answer)
        self._engines = engines
        self._clock = clock
        self._random = random
        self._lease_times = lease_times or LeaseTimes()
        self._changed = changed
        self._parts: _Parts | None = None
        self._error: str | None = None
        self._told: object = None
        self._closed = False

    async def run(self) -> None:
        """Keep it until cancelled, or closed. May be called again after it has ended."""
        try:
            while not self._closed:
                await self._turn()
                self._tell()
                await self._clock.sleep(self._pause())
        finally:
            parts, self._parts = self._parts, None
            if parts is not None:
                async with parts.node.lock:
                    await parts.node.end()
            self._tell()

    async def close(self) -> None:
        """An orderly end: have another voter lead, and stop the engine. Idempotent."""
        self._closed = True
        if self._parts is not None:
            node = self._parts.node
            async with node.lock:
                await node.host.hand_over()
                await node.end()
        self._tell()

    async def answer(self, request: bytes) -> bytes:
        """Answer what another agent asks with :class:`~.network.Caller`; never raises."""
        parts = self._parts
        if parts is None or self._closed:
            reason = self._error or "this agent does not take part now"
            return encode_reply(Reply(False, reason, 0, _NOBODY, self._settings.address, None))
        try:
            asked = decode_request(request)
        except ValueError as error:
            return encode_reply(Reply(False, str(error), 0, _NOBODY, "", None))
        # Who asked may hang up, but an engine that is being started cannot be left half started.
        given = await asyncio.shield(asyncio.ensure_future(answer(parts.node, asked)))
        self._tell()
        return encode_reply(given)

    @property
    def voter(self) -> RunningVoter | None:
        """This agent's engine, while it takes part."""
        return self._parts.node.host.running if self._parts is not None else None

    @property
    def standing(self) -> Standing:
        """How this agent stands."""
        parts, settings = self._parts, self._settings
        problems: tuple[str, ...] = ()
        if self._error is not None:
            problems = (f"Consensus does not work: {self._error}",)
        # Who cannot read what it holds may hold a voter's data: others found nothing beside it.
        failed = parts is None and self._error is not None
        standing = Standing(
            part=Part.FAILED if failed else Part.NONE,
            willing=settings.vote,
            id=_NOBODY,
            address=settings.address,
            cluster=None,
            wanted=settings.voters,
            operations=LATEST,
            problems=problems,
        )
        if parts is None:
            return standing
        memory = parts.node.memory
        return replace(
            standing,
            part=parts.node.part,
            id=memory.id,
            cluster=memory.record.cluster,
            former=memory.record.former,
            doing=_doing(parts),
            problems=problems + _problems(parts),
        )

    async def _turn(self) -> None:
        try:
            parts = self._parts = self._parts or self._load()
            async with parts.node.lock:
                await parts.node.keep()
            memory = parts.node.memory
            if memory.identity is None and memory.record.cluster is None:
                await parts.beginning.turn()
            else:
                await parts.clusters.turn()
                await parts.beginning.tell()
        except (ConsensusError, OSError) as error:
            if str(error) != self._error:
                log.error("consensus: %s", error)
            self._error = str(error)
        else:
            self._error = None

    def _load(self) -> _Parts:
        memory = Memory(self._places, self._engines, self._new_id)
        host = Host(
            self._places.voter,
            self._engines,
            lambda running: self._pilot(node, running),
            self._clock,
            self._lease_times,
        )
        node = Node(self._settings, memory, host, self._membership, self._engines, self._clock)
        return _Parts(
            node,
            Beginning(node, self._asking, self._clock, self._new_id),
            Clusters(node, self._asking, self._clock),
        )

    def _pilot(self, node: Node, running: RunningVoter) -> Pilot:
        return Pilot(running, node, self._asking, self._engines, self._clock, self._settings.times)

    def _new_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _pause(self) -> float:
        interval = self._settings.times.interval
        if self._parts is None:
            return interval
        memory = self._parts.node.memory
        idle = memory.identity is None and memory.record.cluster is not None
        return interval * _CALM if idle else interval

    def _tell(self) -> None:
        now = (self.standing, self.voter)
        if now != self._told:
            self._told = now
            self._changed()


def _doing(parts: _Parts) -> str:
    running, pilot = parts.node.host.running, parts.node.host.pilot
    if running is None:
        memory = parts.node.memory
        begins = memory.identity is None and memory.record.cluster is None
        return parts.beginning.doing if begins else "not voting"
    match running.status.role:
        case Role.JOINING:
            return "waiting to be made a voter"
        case Role.REMOVED:
            return "waiting to hear that it is no voter any more"
        case Role.LEADER if pilot is not None:
            return pilot.doing
    return "following" if running.status.leader is not None else "waiting for an election"


def _problems(parts: _Parts) -> tuple[str, ...]:
    node, found = parts.node, []
    if node.host.failure is not None:
        found.append(f"This agent's voter does not run: {node.host.failure}")
    elif node.memory.identity is None and node.settings.vote and node.address_problem:
        found.append(f"This agent cannot vote: {node.address_problem}")
    elif node.leaderless:
        found.append(
            "The voters have no leader, as far as this agent's voter knows: as long as most of"
            " them do not reach each other, nothing that needs one owner goes on"
        )
    if node.host.pilot is not None:
        found += node.host.pilot.problems
    return (*found, *parts.clusters.problems)
