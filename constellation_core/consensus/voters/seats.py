"""The voters as their leader sees them: what Raft says beside what the membership says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from constellation_core.consensus.interface import EngineStatus, Voter
from constellation_core.consensus.voters.network import Candidate, Part
from constellation_core.consensus.voters.settings import VoterTimes

_ANSWERING = 5.0
"""Seconds; a leader speaks to every voter several times a second."""


@dataclass(frozen=True, slots=True)
class View:
    """What the leader sees.

    Attributes:
        status: of its engine.
        me: this agent.
        others: the other agents.
        now: the second of the clock that :attr:`~.network.Candidate.since` counts in.
        agreed: the version of operations that the voters agreed on.
        removals: how many voters were removed lately; see :attr:`~.settings.VoterTimes.removals`.
        deferred: ids of agents that could not become voters lately.
        told: ids of agents that were told lately that they are no voters.
        times: patience.
    """

    status: EngineStatus
    me: Candidate
    others: tuple[Candidate, ...]
    now: float
    agreed: int
    removals: int
    deferred: frozenset[str]
    told: frozenset[str]
    times: VoterTimes


@dataclass(frozen=True, slots=True)
class Seat:
    """A voter.

    Attributes:
        voter: as it stands in the log.
        agent: who says that this voter is its; ``None`` when nobody does.
        mine: it is the leader itself.
        answering: it answered the leader in the last seconds.
        lost: it is dead or has another address now, and was silent for long enough.
    """

    voter: Voter
    agent: Candidate | None
    mine: bool
    answering: bool
    lost: bool

    @property
    def name(self) -> str:
        """The agent's, or what there is of it."""
        return self.agent.name if self.agent is not None else f"voter {self.voter.id[:8]}"

    @property
    def unwilling(self) -> bool:
        """Its agent lives and does not want to vote (any more)."""
        return self.agent is not None and self.agent.alive and not self.agent.willing

    @property
    def good(self) -> bool:
        """There is no reason to replace it."""
        return not self.lost and not self.unwilling

    @property
    def returns(self) -> bool:
        """Its agent lives and would vote again, with an empty directory, once it is removed."""
        return self.agent is not None and self.agent.alive and self.agent.willing


def majority(size: int) -> int:
    """The smallest number of voters that is more than half."""
    return size // 2 + 1


def seats(view: View) -> tuple[Seat, ...]:
    """The voters, in the order of their ids."""
    agents = {each.id: each for each in (*view.others, view.me)}
    heard, match = dict(view.status.heard), dict(view.status.match)
    found = []
    for voter in view.status.voters:
        mine = voter.id == view.status.me
        silent = 0.0 if mine else heard.get(voter.id, 0.0)
        # Whom a new leader has not heard yet, it counts as heard when it began to lead.
        known = mine or match.get(voter.id, 0) > 0
        answering = known and silent < _ANSWERING
        agent = agents.get(voter.id)
        lost = not answering and silent >= view.times.dead and _gone(voter, agent, view)
        found.append(Seat(voter, agent, mine, answering, lost))
    return tuple(found)


def joiners(view: View, taken: tuple[Seat, ...]) -> tuple[Candidate, ...]:
    """The agents that could become voters now, the best first: spread over regions."""
    mine = view.me.cluster
    voters = {each.voter.id for each in taken}
    able = [
        each
        for each in view.others
        if each.alive
        and each.willing
        and each.part in (Part.CANDIDATE, Part.JOINING)
        and each.cluster in (None, mine)
        and each.id not in voters
        and each.id not in view.deferred
        and view.now - each.since >= view.times.stable
        and each.operations >= view.agreed
    ]
    crowd = crowds(each.agent for each in taken if each.good)
    return tuple(sorted(able, key=lambda each: (crowd[each.region], each.name)))


def crowds(agents: Iterable[Candidate | None]) -> Counter[str]:
    """How many of these agents are in which region."""
    return Counter(each.region for each in agents if each is not None)


def goal(view: View, taken: tuple[Seat, ...], able: tuple[Candidate, ...]) -> int:
    """How many voters there can be at most: what is wanted, or fewer, but an odd number."""
    most = min(view.me.wanted, sum(each.good for each in taken) + len(able))
    return max(1, most - (most + 1) % 2)


def _gone(voter: Voter, agent: Candidate | None, view: View) -> bool:
    """Whether the membership knows of no reason to wait for a voter that is silent."""
    if agent is None or agent.part is not Part.VOTER:
        return True
    if agent.alive:
        # A voter's address does not change: it is added again, with the new one.
        return agent.address != voter.address
    return view.now - agent.since >= view.times.dead
