"""This node's copy of everybody's rows, and what follows from them for the view.

Everybody has the cluster's key, so anybody can say anything of anybody. These rules bound what a
node that lies about another can do:

* Only rows of the life that the owner itself tells of in its metadata are taken.
* An owner hears what is broadcast of it, and is told what went from node to node. What it never
  said it outdoes at once, with a version above (:mod:`constellation_core.catalog.own`).
* Copies of one version with different rows are noticed, for their marks differ; both sides ask
  the owner then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from constellation_core.catalog.digest import Digest, LiveDigest
from constellation_core.catalog.owners import Known, OwnerState, RowChange, Update
from constellation_core.catalog.rows import INSTANCE, MAX_OWNER, SERVICE, Value, owners_of
from constellation_core.catalog.standing import ceiling, epoch_of, plausible
from constellation_core.catalog.stats import CatalogStats
from constellation_core.catalog.urgency import Urgency, urgency_of
from constellation_core.catalog.view import View, effective
from constellation_core.gossip.member import Member
from constellation_core.model.instance import Instance
from constellation_core.model.published import PublishedService

MOST_BYTES = 32 * 1024 * 1024
"""The most that all rows of all owners may count for."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an update.

    Attributes:
        news: it had something that was not known; others may lack it as well.
        urgency: of the most urgent change in it.
        gap: something before it is missing: the owner's rows have to be pulled.
        early: the owner or its life is not known yet; it may be tried again when that changes.
    """

    news: bool = False
    urgency: Urgency = Urgency.METADATA
    gap: bool = False
    early: bool = False


_NOTHING = Taken()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody's digest shows to be missing or doubtful here.

    Attributes:
        here: rows that it has and this node lacks, with what is known here.
        from_owner: owners that have to be asked themselves.
    """

    here: dict[str, Known] = field(default_factory=dict)
    from_owner: set[str] = field(default_factory=set)


class Replica:
    """Rows by owner, and the view that they give.

    Args:
        own: this node's rows.
        own_value: what this node is telling of one of its rows, by key.
        member: looks a member of the gossip up by name.
        members: all of them.
        wall: the wall clock, in seconds since 1970.
        stats: where to count.
        most_bytes: the most that all rows together may count for.
    """

    def __init__(
        self,
        own: OwnerState,
        own_value: Callable[[str], Value | None],
        member: Callable[[str], Member | None],
        members: Callable[[], Iterable[Member]],
        wall: Callable[[], float],
        stats: CatalogStats,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.own = own
        self.view = View()
        self._own_value = own_value
        self._owners: dict[str, OwnerState] = {own.owner: own}
        self._member = member
        self._members = members
        self._wall = wall
        self._stats = stats
        self._most_bytes = most_bytes
        self._bytes = 0
        self._digest = LiveDigest()
        self._changed = {own.owner}
        """Owners of which the digest is not up to date."""
        self._tombstones: dict[tuple[str, str, int], float] = {}

    # --- reading -----------------------------------------------------------------------------

    def state(self, owner: str) -> OwnerState:
        """What is known of an owner; an empty state for an unknown one."""
        return self._owners.get(owner) or OwnerState(owner)

    def living(self, owner: str) -> bool:
        """Whether the membership holds the owner to be online."""
        member = self._member(owner)
        return owner == self.own.owner or (member is not None and member.online)

    def behind(self, owner: str) -> bool:
        """Whether the owner is known to have more than is known here."""
        member = self._member(owner)
        state = self.state(owner)
        if member is None or owner == self.own.owner:
            return False
        epoch = epoch_of(member)
        return epoch is not None and (state.epoch != epoch or state.heard > state.version)

    def believable(self, epoch: int, about: str) -> bool:
        """Whether the epoch of a node is not far in the future."""
        now = self._wall()
        if plausible(epoch, now, ()):
            return True
        others = {each.name: epoch_of(each) for each in self._members()}
        others[self.own.owner] = self.own.epoch
        others.pop(about, None)
        known = [each for each in others.values() if each is not None]
        alone = about == self.own.owner and not known
        return alone or plausible(epoch, now, known)

    # --- what is told ------------------------------------------------------------------------

    def take(self, update: Update, *, from_owner: bool = False) -> Taken:
        """Apply another owner's update if it is news.

        Args:
            update: of another node than this one.
            from_owner: whether the owner itself was asked.
        """
        owner = update.owner
        state = self.state(owner)
        instead = from_owner and update.base == 0
        if not instead and not state.is_news(update):
            self._stats.updates_old += 1
            return _NOTHING
        epoch = self._current(owner)
        if update.epoch != epoch:
            return Taken(early=True)
        if not self.believable(epoch, owner):
            ahead = epoch - int(self._wall())
            self._stats.reject(f"{owner} began {ahead} s after now: its clock or ours is wrong")
            return Taken(early=True)
        if update.damaged:
            self._stats.reject(f"{owner} publishes rows that cannot be accepted")
        before, anew = state.size, update.epoch != state.epoch
        try:
            most = min(MAX_OWNER, max(before, self._most_bytes - self._bytes + before))
            changes = state.apply(update, most=most, instead=instead)
        except ValueError as error:
            self._stats.reject(str(error))
            return _NOTHING
        self._owners[owner] = state
        self._changed.add(owner)
        self._bytes += state.size - before
        self._stats.updates_applied += 1
        self._show(owner, changes)
        if anew:
            # Rows that the update did not change are believable from now on.
            self.judge(owner)
        gap = state.heard > state.version
        self._stats.gaps += gap
        urgency = min((urgency_of(*_values(each)) for each in changes), default=Urgency.METADATA)
        return Taken(True, urgency, gap)

    def show_own(self, key: str) -> None:
        """A row of this node changed, or is about to."""
        self._show_key(self.own.owner, key)

    def acquaint(self, other: Replica) -> None:
        """Know what another node's replica knows; for :meth:`Catalog.acquaint`."""
        if other is self:
            return
        own = self.own.owner
        others = ((name, state) for name, state in other._owners.items() if name != own)
        self._owners = {own: self.own, **{name: replace(state) for name, state in others}}
        self._bytes = sum(s.size for name, s in self._owners.items() if name != own)
        other.digest()
        self._digest.acquaint(other._digest)
        self._changed = {own}
        self.view.acquaint(other.view)

    def judge(self, owner: str) -> None:
        """The owner's membership state changed: work out anew what its rows are worth."""
        self._changed.add(owner)
        for row in self.state(owner).rows.values():
            if isinstance(row.value, Instance):
                self._show_key(owner, row.key)
            elif row.value is not None:
                self.view.elect(row.value.name, self.living)

    def forget(self, owner: str) -> None:
        """Drop everything of an owner that the membership has forgotten."""
        if owner == self.own.owner:
            return
        state = self._owners.pop(owner, None)
        if state is not None:
            self._changed.add(owner)
            self._bytes -= state.size
            self._show(owner, [(key, row, None) for key, row in state.rows.items()])

    def bury(self, now: float, seconds: float) -> None:
        """Drop tombstones that were seen here ``seconds`` ago."""
        seen = {}
        for owner, state in self._owners.items():
            due = []
            for row in state.rows.values():
                if row.value is None:
                    name = (owner, row.key, row.version)
                    since = self._tombstones.get(name, now)
                    if now - since < seconds:
                        seen[name] = since
                    else:
                        due.append(row.key)
            before = state.size
            state.bury(due)
            if state is not self.own:
                self._bytes += state.size - before
        self._tombstones = seen

    # --- comparing ---------------------------------------------------------------------------

    def digest(self) -> Digest:
        """What is known of every owner that lives."""
        return self._current_digest().known

    def fingerprint(self) -> bytes:
        """Of :meth:`digest`."""
        return self._current_digest().fingerprint()

    def versions(self) -> dict[str, tuple[int, int]]:
        """Epoch and version of every owner, whether it lives or not."""
        return {owner: (state.epoch, state.version) for owner, state in self._owners.items()}

    def lacking(self, digest: Digest) -> Iterable[Update]:
        """What somebody with this digest does not have, of the owners that it speaks of."""
        for owner in self._differing(digest):
            known, state = digest[owner], self._owners.get(owner)
            if state is None or not state.complete:
                continue
            if known.epoch != state.epoch:
                if owner == self.own.owner or self._current(owner) == state.epoch:
                    yield state.since(0)
            elif known.version < state.version:
                yield state.since(known.version)
            elif owner == self.own.owner and known.contradicts(state.known):
                yield state.since(0)

    def wanted(self, digest: Digest) -> Wanted:
        """What of somebody's digest is missing or doubtful here."""
        wanted = Wanted()
        for owner in self._differing(digest):
            known = digest[owner]
            if owner == self.own.owner or known.epoch != self._current(owner):
                continue
            state = self.state(owner)
            if state.epoch != known.epoch or state.lacks(known):
                if known.mark:
                    wanted.here[owner] = state.known
                else:
                    wanted.from_owner.add(owner)
            elif state.known.contradicts(known):
                wanted.from_owner.add(owner)
        return wanted

    # --- inside ------------------------------------------------------------------------------

    def _current_digest(self) -> LiveDigest:
        for owner in {*self._changed, self.own.owner}:
            state = self._owners.get(owner)
            known = state.known if state is not None and self.living(owner) else None
            if known != self._digest.known.get(owner):
                self._digest.set(owner, known)
        self._changed.clear()
        return self._digest

    def _differing(self, digest: Digest) -> list[str]:
        """Owners of whom somebody's digest says something else than ours."""
        return sorted(owner for owner, _ in digest.items() - self.digest().items())

    def _current(self, owner: str) -> int | None:
        member = self._member(owner)
        return epoch_of(member) if member is not None else None

    def _show(self, owner: str, changes: Sequence[RowChange]) -> None:
        for key, _, _ in changes:
            self._show_key(owner, key)

    def _value(self, owner: str, key: str) -> Value | None:
        if owner == self.own.owner:
            return self._own_value(key)
        state = self._owners.get(owner)
        row = state.rows.get(key) if state is not None else None
        return row.value if row is not None else None

    def _show_key(self, owner: str, key: str) -> None:
        name = key[len(INSTANCE) :]
        if key.startswith(SERVICE):
            service = self._value(owner, key)
            kept = service if isinstance(service, PublishedService) else None
            self.view.put_published(owner, name, kept)
            self.view.elect(name, self.living)
            return
        for candidate in owners_of(name):
            instance = self._value(candidate, key)
            if isinstance(instance, Instance):
                if candidate != self.own.owner:
                    epoch = self._owners[candidate].epoch
                    best, why = ceiling(self._member(candidate), candidate, epoch)
                    instance = effective(instance, best, why)
                self.view.put_instance(instance, name)
                return
        self.view.put_instance(None, name)


def _values(change: RowChange) -> tuple[Value | None, Value | None]:
    _, old, new = change
    return (old.value if old else None, new.value if new else None)
