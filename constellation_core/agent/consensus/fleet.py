"""Who takes part in consensus, as gossip tells it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from constellation_core.agent.consensus.tags import RAFT, TAG, Told, backend_of, decode
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import EngineStatus
from constellation_core.consensus.voters.network import Candidate, Part
from constellation_core.gossip import Gossip, Member
from constellation_core.gossip.member import BORN_TAG

_SPEAKS = 30.0
"""Seconds after which an agent that says nothing of consensus has none. One that starts is a member
before it has read what it knows."""


@dataclass(frozen=True, slots=True)
class Own:
    """What this agent itself has to say.

    Attributes:
        cluster: the cluster UUID that it knows of.
        voter: how its own voter sees the group, while that runs.
    """

    cluster: str | None
    voter: EngineStatus | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """Since when a member is what it is, on the boot-time clock."""

    alive: bool
    born: str
    since: float


class Fleet:
    """The other agents, as :class:`~constellation_core.consensus.voters.network.Membership` and
    :class:`~constellation_core.consensus.remote.Directory` ask for them.

    Args:
        gossip: the membership.
        clock: the boot-time clock.
        told_of_others: whether the settings name others, whom this agent has to meet first.
        own: what this agent says at the moment.
    """

    def __init__(
        self,
        gossip: Gossip,
        clock: BootClock,
        told_of_others: Callable[[], bool],
        own: Callable[[], Own],
    ) -> None:
        self._gossip = gossip
        self._clock = clock
        self._told_of_others = told_of_others
        self._own = own
        self._met = False
        self._seen: dict[str, _Seen] = {}

    # --- for the voters -------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether this agent may found something, as far as that depends on whom it has met."""
        self._observe()
        met = self._met or not self._told_of_others()
        return met and not self.elsewhere() and not self._someone_starts()

    def candidates(self) -> tuple[Candidate, ...]:
        """All other agents that say anything of the built-in voters."""
        self._observe()
        return tuple(
            Candidate(
                member.name,
                member.tags.get("region", ""),
                told.address,
                member.online,
                self._seen[member.name].since,
                told.part,
                told.willing,
                told.id,
                told.cluster,
                told.wanted,
                told.operations,
            )
            for member, told in self._others()
        )

    # --- for those who ask the voters -----------------------------------------------------------

    def voters(self) -> Sequence[str]:
        """Ids of voters that may answer: this agent's own, then those of its region, then others.

        Beyond that every agent has an order of its own, so that not all of them ask the same one.
        """
        own = self._own()
        region = self._gossip.local.tags.get("region", "")
        near = {
            told.id: (member.tags.get("region", "") != region, self._rank(told.id))
            for member, told in self._voters(own.cluster)
        }
        mine = [own.voter.me] if own.voter is not None else []
        return [*mine, *sorted(near.keys() - set(mine), key=near.__getitem__)]

    def leader(self) -> str | None:
        """Which voter is thought to lead."""
        own = self._own()
        if own.voter is not None and own.voter.leader is not None:
            return own.voter.leader.id
        leads = [
            (told.term, told.id) for _, told in self._voters(own.cluster) if told.term is not None
        ]
        return max(leads)[1] if leads else None

    def member(self, voter: str) -> Member | None:
        """The node of a voter, if it is alive."""
        for member, told in self._others():
            if told.id == voter and member.online:
                return member
        return None

    # --- for people -----------------------------------------------------------------------------

    def node_of(self, voter: str) -> str | None:
        """The name of the agent that says that this voter is its own, alive or not."""
        return next((member.name for member, told in self._others() if told.id == voter), None)

    def told(self) -> list[tuple[Member, Told]]:
        """The other agents with what they say."""
        return list(self._others())

    def elsewhere(self) -> dict[str, str]:
        """Agents that are alive and keep consensus by something else than the built-in voters."""
        return {
            member.name: backend
            for member in self._gossip.members()
            if member.online
            and member.name != self._gossip.local.name
            and (backend := backend_of(member.tags.get(TAG, ""))) not in ("", RAFT)
        }

    # --- inside ---------------------------------------------------------------------------------

    def _observe(self) -> None:
        """Note who came and went."""
        now = self._clock.boottime()
        loop_now = asyncio.get_running_loop().time()
        members = [m for m in self._gossip.members() if m.name != self._gossip.local.name]
        seen: dict[str, _Seen] = {}
        for member in members:
            before = self._seen.get(member.name)
            alive, born = member.online, member.tags.get(BORN_TAG, "")
            if before is None:
                since = now - max(0.0, loop_now - member.since)
            elif (before.alive, before.born) != (alive, born):
                since = now
            else:
                since = before.since
            seen[member.name] = _Seen(alive, born, since)
            self._met = self._met or alive
        self._seen = seen

    def _someone_starts(self) -> bool:
        """Whether somebody was met a moment ago that has not said yet what it knows."""
        now = self._clock.boottime()
        return any(
            member.online
            and member.name != self._gossip.local.name
            and not member.tags.get(TAG)
            and now - self._seen[member.name].since < _SPEAKS
            for member in self._gossip.members()
        )

    def _others(self) -> Iterator[tuple[Member, Told]]:
        for member in self._gossip.members():
            told = decode(member.tags.get(TAG, ""))
            if told is not None and member.name != self._gossip.local.name:
                yield member, told

    def _voters(self, cluster: str | None) -> Iterator[tuple[Member, Told]]:
        for member, told in self._others():
            if member.online and told.part is Part.VOTER and told.cluster == cluster is not None:
                yield member, told

    def _rank(self, voter: str) -> bytes:
        text = f"{self._gossip.local.name} {voter}"
        return hashlib.sha256(text.encode()).digest()
