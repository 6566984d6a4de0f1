"""This node's copy of everybody's rows, and what follows from them for the view."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from constellation_core.catalog.digest import Digest, LiveDigest
from constellation_core.catalog.owners import OwnerState, Update
from constellation_core.catalog.rows import INSTANCE, SERVICE, Row
from constellation_core.catalog.view import View, effective
from constellation_core.gossip.member import EPOCH_TAG, Member, decode_tags
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.node import NodeState
from constellation_core.model.published import PublishedService

log = logging.getLogger("constellation.catalog")


@dataclass(slots=True)
class CatalogStats:
    """What the catalog counted since it started."""

    updates_applied: int = 0
    updates_old: int = 0
    gaps: int = 0
    pulls: int = 0
    rejected: int = 0
    last_rejected: str = ""

    def reject(self, reason: str) -> None:
        """Count something that was refused; logged when it is another reason than the last."""
        self.rejected += 1
        if reason != self.last_rejected:
            log.warning("refused a part of the catalog: %s", reason)
        self.last_rejected = reason


class Taken(Enum):
    """What became of an update."""

    APPLIED = auto()
    OLD = auto()
    GAP = auto()
    """It does not follow on what is known here: the owner's rows have to be pulled."""
    REFUSED = auto()


class Replica:
    """Rows by owner, and the view that they give.

    Args:
        own: this node's rows.
        member: looks a member of the gossip up by name.
        stats: where to count.
        on_own_past: told the epoch when others know a later state of this node than itself.
    """

    def __init__(
        self,
        own: OwnerState,
        member: Callable[[str], Member | None],
        stats: CatalogStats,
        on_own_past: Callable[[int], None],
    ) -> None:
        self.own = own
        self.view = View()
        self._owners: dict[str, OwnerState] = {own.owner: own}
        self._digest = LiveDigest()
        self._member = member
        self._stats = stats
        self._on_own_past = on_own_past
        self._count(own.owner)

    def state(self, owner: str) -> OwnerState:
        """What is known of an owner; an empty state for an unknown one."""
        return self._owners.get(owner) or OwnerState(owner)

    def change_own(self, row: Row) -> None:
        """Change a row of this node."""
        own = self.own
        changes = own.apply(Update(own.owner, own.epoch, own.version, row.version, (row,)))
        self._count(own.owner)
        self._show(own.owner, changes)

    def take(self, update: Update) -> Taken:
        """Apply another owner's update if it is news."""
        owner = update.owner
        if owner == self.own.owner:
            self.meet_own_past(update.epoch, update.version)
            return Taken.OLD
        state = self.state(owner)
        if not state.lacks(update.epoch, update.version):
            self._stats.updates_old += 1
            return Taken.OLD
        if self._member(owner) is None:
            return Taken.REFUSED
        if update.damaged:
            self._stats.reject(f"{owner} publishes rows that cannot be accepted")
        if not state.fits(update):
            self._stats.gaps += 1
            return Taken.GAP
        try:
            changes = state.apply(update)
        except ValueError as error:
            self._stats.reject(str(error))
            return Taken.REFUSED
        self._owners[owner] = state
        self._count(owner)
        self._stats.updates_applied += 1
        self._show(owner, changes)
        if update.base == 0:
            # A new epoch may make rows believable that the update itself did not change.
            self.judge(owner)
        return Taken.APPLIED

    def meet_own_past(self, epoch: int, version: int) -> None:
        """Somebody holds rows of this node: if they are later than ours, outdo them."""
        own = self.own
        if (epoch, version) <= (own.epoch, own.version):
            return
        log.warning(
            "other nodes know a later state of this node (epoch %d) than itself (epoch %d): "
            "its clock or its data directory was set back; going on with a new epoch",
            epoch,
            own.epoch,
        )
        own.epoch = max(epoch, own.epoch) + 1
        self._count(own.owner)
        self._on_own_past(own.epoch)

    def acquaint(self, other: Replica) -> None:
        """Know what another node's replica knows; for :meth:`Catalog.acquaint`."""
        if other is self:
            return
        self._owners = {
            owner: replace(state)
            for owner, state in other._owners.items()
            if owner != self.own.owner
        }
        self._owners[self.own.owner] = self.own
        self._digest.acquaint(other._digest)
        self._count(self.own.owner)
        self.view.acquaint(other.view)

    def judge(self, owner: str) -> None:
        """The owner's membership state changed: work out anew what its rows are worth."""
        self._count(owner)
        for row in self.state(owner).rows.values():
            if isinstance(row.value, Instance):
                self._show_instance(owner, row.value.id, row.value)
        for name in self.view.published_by(owner):
            self.view.elect(name, self.living)

    def forget(self, owner: str) -> None:
        """Drop everything of an owner that the membership has forgotten."""
        state = self._owners.pop(owner, None)
        if state is not None and owner != self.own.owner:
            self._count(owner)
            self._show(owner, [(key, row, None) for key, row in state.rows.items()])

    def digest(self) -> Digest:
        """Epoch and version of every owner that lives."""
        return self._digest.known

    def versions(self) -> dict[str, tuple[int, int]]:
        """Epoch and version of every owner, whether it lives or not."""
        return {owner: (state.epoch, state.version) for owner, state in self._owners.items()}

    def fingerprint(self) -> bytes:
        """Of :meth:`digest`."""
        return self._digest.fingerprint()

    def lacking(self, digest: Digest) -> list[Update]:
        """What somebody with this digest does not have, of the owners that it speaks of."""
        updates = []
        for owner in self._differing(digest):
            epoch, version = digest[owner]
            state = self._owners.get(owner)
            if state is not None and (state.epoch, state.version) > (epoch, version):
                updates.append(state.since(version if epoch == state.epoch else 0))
        return updates

    def wanted(self, digest: Digest) -> Digest:
        """What of somebody's digest is newer than what is known here, with what is known."""
        wanted = {}
        for owner in self._differing(digest):
            epoch, version = digest[owner]
            state = self.state(owner)
            if owner == self.own.owner:
                self.meet_own_past(epoch, version)
            elif self._member(owner) is not None and state.lacks(epoch, version):
                wanted[owner] = (state.epoch, state.version)
        return wanted

    def living(self, owner: str) -> bool:
        """Whether the membership holds the owner to be online."""
        member = self._member(owner)
        return owner == self.own.owner or (member is not None and member.online)

    def _differing(self, digest: Digest) -> list[str]:
        """Owners of whom somebody's digest says something else than ours."""
        return sorted(owner for owner, _ in digest.items() - self._digest.known.items())

    def _count(self, owner: str) -> None:
        """Bring the digest up to date, after an owner's rows or its state may have changed."""
        state = self._owners.get(owner)
        known = (state.epoch, state.version) if state is not None and self.living(owner) else None
        if known != self._digest.known.get(owner):
            self._digest.set(owner, known)

    def _show(self, owner: str, changes: Sequence[tuple[str, Row | None, Row | None]]) -> None:
        for key, _, new in changes:
            value = new.value if new is not None else None
            if key.startswith(INSTANCE):
                instance = value if isinstance(value, Instance) else None
                self._show_instance(owner, key[len(INSTANCE) :], instance)
            else:
                name = key[len(SERVICE) :]
                service = value if isinstance(value, PublishedService) else None
                self.view.put_published(owner, name, service)
                self.view.elect(name, self.living)

    def _show_instance(self, owner: str, instance_id: str, instance: Instance | None) -> None:
        if instance is not None:
            instance = effective(instance, *self._ceiling(owner))
        self.view.put_instance(instance, instance_id)

    def _ceiling(self, owner: str) -> tuple[Health, str]:
        """The best health that an instance of ``owner`` can have, and why."""
        if owner == self.own.owner:
            return Health.HEALTHY, ""
        member = self._member(owner)
        if member is None:
            return Health.UNREACHABLE, f"node {owner} is unknown"
        if not member.online:
            word = "has left" if member.state is NodeState.LEFT else "is dead"
            return Health.UNREACHABLE, f"node {owner} {word}"
        lives = decode_tags(member.meta).get(EPOCH_TAG)
        if lives is not None and lives != f"{self.state(owner).epoch:x}":
            return Health.UNREACHABLE, f"node {owner} has started anew"
        if member.state is NodeState.SUSPECT:
            return Health.SUSPECT, f"node {owner} does not answer"
        return Health.HEALTHY, ""
