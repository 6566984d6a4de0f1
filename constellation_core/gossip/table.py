"""The rules by which a node believes what it is told about members.

Everything said of a node carries the incarnation number that the node itself last chose. A
word about a newer incarnation wins; at the same one, suspicion beats being alive and death
beats suspicion. Only the node itself raises its number, to refute what is said of it.

Source: Das, Gupta and Motivala, "SWIM" (2002), section 4.2, and memberlist's ``state.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Protocol

from constellation_core.gossip.awareness import Awareness
from constellation_core.gossip.choosing import choose
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.conflicts import Conflict, ConflictLog
from constellation_core.gossip.member import (
    Address,
    EventKind,
    Member,
    MemberEvent,
    pack_ip,
)
from constellation_core.gossip.messages import Alive, Dead, NodeRow, Suspect
from constellation_core.gossip.plausible import (
    MOST_CLAIMED,
    NotBelievedError,
    is_answerable,
    member_of,
)
from constellation_core.gossip.probe_order import ProbeOrder
from constellation_core.gossip.suspects import Suspects
from constellation_core.gossip.timers import Timers
from constellation_core.model.node import NodeState

_VOLUNTEERS = 1.0
_VOLUNTEERS_EACH = 2.0
"""So many nodes, on average, and so many more for each confirmation that is wanted, probe a suspect
at once when they hear of the suspicion. More would be a burden for one that is only slow."""


class TableOutput(Protocol):
    """Where the table sends what follows from its rules."""

    def broadcast(self, subject: str, message: Alive | Suspect | Dead) -> None:
        """Tell everybody."""

    def notify(self, event: MemberEvent) -> None:
        """Tell the application."""

    def name_claimed(self, claim: Member) -> None:
        """Another address goes by the name of this node."""

    def accuse(self, member: Member) -> None:
        """Tell a suspect itself, which answers if it can."""


class MemberTable:
    """All known members, this one included, and the rules that change them."""

    def __init__(
        self,
        config: GossipConfig,
        local: Member,
        timers: Timers,
        rng: Random,
        awareness: Awareness,
        output: TableOutput,
    ) -> None:
        self._config = config
        self._timers = timers
        self._rng = rng
        self._awareness = awareness
        self._output = output
        self._members: dict[str, Member] = {local.name: local}
        self._others: list[str] = []
        self._online = 1
        self._suspects = Suspects(config, timers, rng, self._accuse, self._expire)
        self._probe_order = ProbeOrder(local.name, rng)
        self._names_at: dict[Address, str] = {local.address: local.name}
        self.conflicts = ConflictLog()
        self.leaving = False
        self.incompatible: Callable[[str], None] = lambda _reason: None

    # --- reading -----------------------------------------------------------------------------

    @property
    def local(self) -> Member:
        """This node."""
        return self._members[self._config.name]

    def get(self, name: str) -> Member | None:
        """The member called ``name``, whatever its state."""
        return self._members.get(name)

    def all(self) -> list[Member]:
        """All members, also those that are dead or left and not forgotten yet."""
        return list(self._members.values())

    def online_count(self) -> int:
        """How many are alive or suspect, this one included."""
        return self._online

    @property
    def all_online(self) -> bool:
        """Whether no member is dead or has left."""
        return self._online == len(self._members)

    def choose(self, most: int, wanted: Callable[[Member], bool] | None) -> list[Member]:
        """Up to ``most`` random members other than this one that are ``wanted``; all may be."""
        return choose(self._rng, self._others, self._members, most, wanted)

    def next_to_probe(self) -> Member | None:
        """The next in the order of :class:`ProbeOrder`."""
        return self._probe_order.next(self._members.get)

    # --- what others say ---------------------------------------------------------------------

    def alive(self, message: Alive) -> None:
        """``message.node`` is said to be alive."""
        if message.node == self._config.name:
            self._alive_self(message)
            return
        if self._is_known(message.node, message.incarnation, message.address, message.port):
            return
        claim = self._claim(message)
        if claim is None:
            return
        known = self._members.get(claim.name)
        if known is None:
            if len(self._members) >= self._config.most_members:
                self.incompatible(f"{claim.name}: {len(self._members)} members are known already")
                return
            self._probe_order.add(claim.name)
            self._accept(claim, message, EventKind.JOINED, None)
            return
        moved = known.address != claim.address
        if moved and not self._may_move(known):
            self._conflict(EventKind.CONFLICT, claim, known)
            return
        if message.incarnation <= known.incarnation and not (moved and not known.online):
            return
        self._suspects.end(claim.name)
        if not known.online:
            kind: EventKind | None = EventKind.JOINED
        elif (
            moved
            or known.meta != claim.meta
            or known.versions != claim.versions
            or known.state is NodeState.SUSPECT
        ):
            kind = EventKind.UPDATED
        else:
            kind = None
        if known.state is NodeState.ALIVE:
            claim = replace(claim, since=known.since)
        self._accept(claim, message, kind, known)

    def suspect(self, message: Suspect) -> None:
        """``message.source`` got no answer from ``message.node``."""
        known = self._members.get(message.node)
        if known is None or message.incarnation < known.incarnation:
            return
        if self._is_absurd(message, known):
            return
        if message.node in self._suspects:
            if self._suspects.confirm(message.node, message.source):
                self._output.broadcast(message.node, message)
            return
        if known.state is not NodeState.ALIVE:
            return
        if message.node == self._config.name:
            self.refute(message.incarnation)
            return
        self._output.broadcast(message.node, message)
        wanted = self._begin_suspicion(message, known)
        if self._rng.random() * self._online < _VOLUNTEERS + _VOLUNTEERS_EACH * wanted:
            self._probe_order.hurry(known.name)

    def dead(self, message: Dead) -> None:
        """``message.node`` is declared dead, or says itself that it leaves."""
        known = self._members.get(message.node)
        if known is None or message.incarnation < known.incarnation or not known.online:
            return
        if self._is_absurd(message, known):
            return
        if message.node == self._config.name and not self.leaving:
            self.refute(message.incarnation)
            return
        left = message.source == message.node
        if not left and message.source != self._config.name:
            self._hear_before(message, known)
            return
        self._suspects.end(message.node)
        self._output.broadcast(message.node, message)
        changed = replace(
            known,
            incarnation=message.incarnation,
            state=NodeState.LEFT if left else NodeState.DEAD,
            since=self._timers.now,
        )
        self._set(changed)
        if message.node != self._config.name:
            kind = EventKind.LEFT if left else EventKind.FAILED
            self._output.notify(MemberEvent(kind, changed, known))

    def merge(self, rows: Iterable[NodeRow]) -> None:
        """Take over another node's whole view.

        What it believes to be dead is only suspected here, so that the node can object.
        """
        for row in rows:
            if row.state == 0:
                if self._is_known(row.name, row.incarnation, row.address, row.port):
                    continue
                self.alive(
                    Alive(row.incarnation, row.name, row.address, row.port, row.meta, row.versions)
                )
            elif row.state == 3:
                self.dead(Dead(row.incarnation, row.name, row.name))
            else:
                self.suspect(Suspect(row.incarnation, row.name, self._config.name))

    # --- what this node says -----------------------------------------------------------------

    def refute(self, accused: int) -> None:
        """Tell everybody that this node is alive, with a number above the accusation's."""
        incarnation = max(self.local.incarnation, accused) + 1
        if incarnation > MOST_CLAIMED:
            self.incompatible(f"somebody speaks of this node's incarnation {accused}")
            return
        local = replace(self.local, incarnation=incarnation)
        self._set(local)
        self._awareness.add(1)
        self._output.broadcast(local.name, local.alive())

    def set_meta(self, meta: bytes) -> None:
        """Change what this node tells of itself."""
        if meta == self.local.meta or self.leaving:
            # A new word about itself would take the goodbye back.
            return
        local = replace(self.local, meta=meta, incarnation=self.local.incarnation + 1)
        self._set(local)
        self._output.broadcast(local.name, local.alive())

    def move(self, address: Address) -> None:
        """Change this node's own address; nobody may know it yet, or it looks like another."""
        before = self.local
        moved = replace(before, address=address)
        self._set(moved)
        self._output.notify(MemberEvent(EventKind.UPDATED, moved, before))

    def leave(self) -> None:
        """Say goodbye."""
        self.leaving = True
        local = self.local
        self.dead(Dead(local.incarnation, local.name, local.name))

    def postpone_suspicions(self, seconds: float) -> None:
        """Give all suspects more time: this process was not running for so long."""
        self._suspects.postpone(seconds)

    def acquaint(self, members: Mapping[str, Member]) -> None:
        """Know these members too, and tell nobody; for :meth:`Protocol.acquaint`."""
        self._probe_order.add(*(name for name in members if name not in self._members))
        self._members = {**members, **self._members}
        self._others = [name for name in self._members if name != self._config.name]
        self._names_at = {member.address: name for name, member in self._members.items()}
        self._online = sum(member.online for member in self._members.values())

    def forget(self) -> list[Member]:
        """Drop members that were dead or gone for long enough; returns them."""
        now = self._timers.now
        gone = [
            member
            for member in self._members.values()
            if (member.state is NodeState.DEAD and now - member.since > self._config.forget_dead)
            or (
                member.state is NodeState.LEFT
                and now - member.since > self._config.forget_left
                and member.name != self._config.name
            )
        ]
        for member in gone:
            del self._members[member.name]
            if self._names_at.get(member.address) == member.name:
                del self._names_at[member.address]
            self._others.remove(member.name)
            self._probe_order.remove(member.name)
        return gone

    def _set(self, member: Member) -> None:
        known = self._members.get(member.name)
        if known is None:
            self._others.append(member.name)
        if known is None or known.address != member.address:
            self._move(member, known)
        self._online += member.online - (known is not None and known.online)
        self._members[member.name] = member

    def _move(self, member: Member, known: Member | None) -> None:
        if known is not None and self._names_at.get(known.address) == member.name:
            del self._names_at[known.address]
        holder = self._members.get(self._names_at.get(member.address, ""))
        self._names_at[member.address] = member.name
        if holder is not None and holder.online and holder.name != member.name:
            self._conflict(EventKind.ADDRESS_CONFLICT, member, holder)

    def _conflict(self, kind: EventKind, claim: Member, holder: Member) -> None:
        conflict = Conflict(
            "name" if kind is EventKind.CONFLICT else "address",
            claim.name,
            claim.address,
            holder.name,
            holder.address,
            self._timers.now,
        )
        if self.conflicts.is_news(conflict):
            self._output.notify(MemberEvent(kind, claim, holder))

    def _is_known(self, name: str, incarnation: int, address: bytes, port: int) -> bool:
        """Whether that a member is alive is no news, as nearly always: everybody says so."""
        known = self._members.get(name)
        if known is None or known.state is not NodeState.ALIVE or name == self._config.name:
            return False
        there = (pack_ip(known.address[0]), known.address[1])
        return incarnation <= known.incarnation and (address, port) == there

    # --- rules -------------------------------------------------------------------------------

    def _claim(self, message: Alive) -> Member | None:
        try:
            return member_of(message, self._config, self._timers.now)
        except NotBelievedError as error:
            self.incompatible(str(error))
            return None

    def _alive_self(self, message: Alive) -> None:
        local = self.local
        if self.leaving:
            return
        same = local.alive()
        if (message.address, message.port) != (same.address, same.port):
            # Contradicting would only make two nodes of one name shout at each other.
            claim = self._claim(message)
            if claim is not None:
                self._conflict(EventKind.CONFLICT, claim, local)
                self._output.name_claimed(claim)
            return
        if message.incarnation < local.incarnation or message == same:
            return
        self.refute(message.incarnation)

    def _is_absurd(self, accusation: Suspect | Dead, known: Member) -> bool:
        if is_answerable(accusation.incarnation, known):
            return False
        self.incompatible(f"{accusation.source!r} accuses {known.name} beyond all numbers")
        return True

    def _may_move(self, known: Member) -> bool:
        if known.state is NodeState.LEFT:
            return True
        dead_for = self._timers.now - known.since
        return known.state is NodeState.DEAD and dead_for > self._config.reclaim_dead

    def _accept(
        self, member: Member, message: Alive, kind: EventKind | None, previous: Member | None
    ) -> None:
        self._set(member)
        self._output.broadcast(member.name, message)
        if kind is not None:
            self._output.notify(MemberEvent(kind, member, previous))

    def _expire(self, name: str) -> None:
        known = self._members.get(name)
        if known is not None and known.state is NodeState.SUSPECT:
            self.dead(Dead(known.incarnation, name, self._config.name))

    def _begin_suspicion(self, message: Suspect | Dead, known: Member) -> int:
        """Returns how many others should confirm it."""
        changed = replace(
            known,
            incarnation=message.incarnation,
            state=NodeState.SUSPECT,
            since=self._timers.now,
        )
        self._set(changed)
        wanted = self._suspects.begin(known.name, message.source, self._online)
        self._output.notify(MemberEvent(EventKind.UPDATED, changed, known))
        return wanted

    def _hear_before(self, message: Dead, known: Member) -> None:
        """Ask a member itself before believing others that it is dead.

        The word may come from the other side of a partition that is just over, or be a lie.
        """
        if known.state is NodeState.ALIVE:
            self._begin_suspicion(message, known)
        elif message.incarnation > known.incarnation:
            self._set(replace(known, incarnation=message.incarnation))
        self._suspects.hasten(known.name)

    def _accuse(self, name: str) -> None:
        self._output.accuse(self._members[name])
