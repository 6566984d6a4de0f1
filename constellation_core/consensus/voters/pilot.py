"""Carries out what :mod:`.autopilot` decides, on the voter that leads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, Role, Voter
from constellation_core.consensus.state import OutdatedError
from constellation_core.consensus.state.operations import RaiseVersion, encode
from constellation_core.consensus.voters.asking import Asking, wait_until
from constellation_core.consensus.voters.autopilot import (
    Action,
    Add,
    Dismiss,
    HandOver,
    Raise,
    Remove,
    Rest,
    decide,
)
from constellation_core.consensus.voters.network import (
    Candidate,
    Engines,
    UnreachableError,
)
from constellation_core.consensus.voters.problems import problems
from constellation_core.consensus.voters.seats import View
from constellation_core.consensus.voters.settings import VoterTimes
from constellation_core.consensus.voters.status import RunningVoter
from constellation_core.consensus.voters.wire import Prepare, Retire

log = logging.getLogger("constellation.consensus")

_CHANGE = 10.0
"""Seconds for a change of the voters to be committed."""


class Agents(Protocol):
    """This agent and the others, as they stand now."""

    def me(self) -> Candidate: ...

    def others(self) -> tuple[Candidate, ...]: ...


class Pilot:
    """Runs on every voter, and acts on the one that leads. One change at a time.

    Args:
        running: the voter.
        agents: who there is.
        asking: asks other agents.
        engines: try whether an engine is reached.
        clock: this machine's, by which candidates' times are counted.
        times: patience.

    Attributes:
        doing: what it does or waits for; empty when another voter leads.
        problems: what somebody should look after; empty when another voter leads.
    """

    def __init__(
        self,
        running: RunningVoter,
        agents: Agents,
        asking: Asking,
        engines: Engines,
        clock: BootClock,
        times: VoterTimes,
    ) -> None:
        self._running = running
        self._engine = running.engine
        self._agents = agents
        self._asking = asking
        self._engines = engines
        self._clock = clock
        self._times = times
        self._deferred: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._removals: list[float] = []
        self._known: frozenset[str] = frozenset()
        self.doing = ""
        self.problems: tuple[str, ...] = ()

    async def run(self) -> None:
        """Do it until cancelled."""
        while True:
            self._observe()
            try:
                await self._turn()
            except (ConsensusError, OutdatedError) as error:
                log.warning("the voters cannot be looked after at the moment: %s", error)
            await self._clock.sleep(self._times.interval)

    def _observe(self) -> None:
        """Count removals on followers too: whoever leads next goes on with them."""
        now = self._clock.boottime()
        voters = frozenset(each.id for each in self._engine.status.voters)
        self._removals += [now] * len(self._known - voters)
        self._known = voters
        self._removals = [at for at in self._removals if now - at < self._times.removals]
        self._deferred = {key: at for key, at in self._deferred.items() if at > now}
        self._told = {key: at for key, at in self._told.items() if at > now}

    async def _turn(self) -> None:
        status = self._engine.status
        if status.role is not Role.LEADER:
            self.doing, self.problems = "", ()
            return
        agreed = await self._engine.read(lambda: self._running.state.version)
        view = View(
            status,
            self._agents.me(),
            self._agents.others(),
            self._clock.boottime(),
            agreed,
            len(self._removals),
            frozenset(self._deferred),
            frozenset(self._told),
            self._times,
        )
        self.problems = problems(view)
        await self._carry_out(decide(view))

    async def _carry_out(self, action: Action) -> None:
        match action:
            case Rest(reason):
                self.doing = reason
            case Add(agent):
                await self._add(agent)
            case Remove(seat, reason):
                self._say(f"removing the voter of {seat.name}: {reason}")
                await self._engine.remove_voter(seat.voter.id, timeout=_CHANGE)
            case HandOver(seat):
                self._say(f"handing the lead to {seat.name}, as this agent is not to vote any more")
                await self._engine.transfer_leadership(seat.voter.id)
                await self._until(lambda: self._engine.status.role is not Role.LEADER, _CHANGE)
            case Dismiss(agent):
                await self._dismiss(agent)
            case Raise(version):
                self._say(f"allowing operations of version {version}: every voter knows them")
                await self._engine.propose(encode(RaiseVersion(version)), timeout=_CHANGE)

    async def _add(self, agent: Candidate) -> None:
        self._say(f"making {agent.name} a voter")
        cluster = self._agents.me().cluster
        if cluster is None:
            return
        try:
            # A slow disk may take its time; it is made once.
            reply = await self._asking.ask(
                agent.name, Prepare(cluster, agent.id), self._times.catch_up
            )
            if not reply.done:
                raise UnreachableError(reply.reason)
            # Whatever else answers there would cost a lone voter its majority.
            voter = Voter(agent.id, reply.address)
            await self._engines.reach(cluster, voter, timeout=self._times.answer)
        except UnreachableError as error:
            self._defer(agent, str(error))
            return
        try:
            await self._engine.add_voter(voter, timeout=self._times.catch_up)
        except ConsensusError as error:
            self._defer(agent, str(error))
            return
        goal = self._engine.status.commit_index
        if await self._until(lambda: self._caught_up(agent.id, goal), self._times.catch_up):
            return
        if self._engine.status.role is Role.LEADER:
            self._defer(agent, f"it has not got the log in {self._times.catch_up:g} seconds")
            await self._engine.remove_voter(agent.id, timeout=_CHANGE)

    async def _dismiss(self, agent: Candidate) -> None:
        cluster = self._agents.me().cluster
        # What this leader knows of the voters is sure to hold once it has committed something.
        index = await self._engine.barrier(timeout=_CHANGE)
        await self._until(lambda: self._engine.status.applied_index >= index, _CHANGE)
        status = self._engine.status
        voters = {each.id for each in status.voters}
        if cluster is None or status.role is not Role.LEADER or agent.id in voters:
            return
        self._say(f"telling {agent.name} that it is no voter")
        self._told[agent.id] = self._clock.boottime() + self._times.defer
        reply = await self._asking.ask(agent.name, Retire(cluster, agent.id, index))
        if not reply.done:
            log.warning("%s remains as it is: %s", agent.name, reply.reason)

    def _caught_up(self, voter: str, goal: int) -> bool:
        status = self._engine.status
        return status.role is Role.LEADER and dict(status.match).get(voter, 0) >= goal

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition while this voter leads; whether it holds."""
        return (
            await wait_until(
                lambda: condition() or self._engine.status.role is not Role.LEADER,
                seconds,
                self._clock,
            )
            and condition()
        )

    def _defer(self, agent: Candidate, reason: str) -> None:
        self._deferred[agent.id] = self._clock.boottime() + self._times.defer
        log.warning("%s does not become a voter: %s", agent.name, reason)

    def _say(self, what: str) -> None:
        if what != self.doing:
            log.info("%s", what)
        self.doing = what
