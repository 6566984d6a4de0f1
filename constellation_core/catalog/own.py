"""This node's own rows: how they get their versions and go out, and how lies are outdone."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from constellation_core.catalog.messages import encode
from constellation_core.catalog.outbox import Outbox
from constellation_core.catalog.owners import Known, OwnerState, Update
from constellation_core.catalog.rows import Row
from constellation_core.catalog.stats import CatalogStats
from constellation_core.catalog.urgency import Urgency

log = logging.getLogger("constellation.catalog")

_MOST_PARTS = 4
"""A change that takes more datagrams is announced, and pulled over TCP: each datagram is sent by
every node a dozen times, a pull once."""
_MOST_URGENT_PARTS = 16
_ROW_OVERHEAD = 20
_UPDATE_OVERHEAD = 50
_SAID = 64
_SETTLING = 5.0
"""Seconds after which everybody should know of what was announced. A broadcast holds what changed
since, where that fits, so that most of those who missed something can apply it all the same."""
_MOST_HISTORY = 64
_MOST_VERSIONS = 2**60
_OUTDO_EVERY = 5.0
"""Seconds. Who is lied about without end must not flood everybody with the truth."""


@dataclass(frozen=True, slots=True)
class Part:
    """One broadcast of a change."""

    payload: bytes
    base: int
    version: int
    urgency: Urgency


class OwnRows:
    """What this node publishes.

    Args:
        state: its rows, as others get them.
        outbox: changes that are on their way there.
        message_size: the most that a broadcast may have.
        stats: where to count.
        on_epoch: told the new epoch when the old one cannot be kept.
    """

    def __init__(
        self,
        state: OwnerState,
        outbox: Outbox,
        message_size: int,
        stats: CatalogStats,
        on_epoch: Callable[[int], None],
    ) -> None:
        self.state = state
        self.outbox = outbox
        self._message_size = message_size
        self._stats = stats
        self._on_epoch = on_epoch
        self._announced = 0
        self._history = deque([(-math.inf, 0)], _MOST_HISTORY)
        self._said: deque[bytes] = deque(maxlen=_SAID)
        self._owed: int | None = None
        self._may_outdo = -math.inf

    # --- telling -----------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Whether :meth:`parts` has something to tell; asked often."""
        return (
            self._announced != self.state.version
            or self.outbox.due <= now
            or (self._owed is not None and self._may_outdo <= now)
        )

    def parts(self, now: float, waiting: int | None) -> list[Part]:
        """What is to be broadcast now; the most urgent comes first.

        Args:
            now: the time.
            waiting: the version that the oldest of earlier parts follows on which still wait to
                be sent; what contains these takes their place.
        """
        urgencies = self._take_over(now)
        self._outdo(now)
        own, told = self.state, self._announced
        if told == own.version:
            return []
        unsent = told if waiting is None else min(told, waiting)
        parts = (
            self._one(urgencies, min(unsent, self._settled(now)))
            or self._one(urgencies, unsent)
            or self._several(urgencies, told)
        )
        self._announced = own.version
        self._history.append((now, own.version))
        self._said += [part.payload for part in parts]
        return parts

    def settle(self) -> None:
        """Take it that everybody knows all that is published; for simulations."""
        self._take_over(math.inf)
        self._announced = self.state.version
        self._history = deque([(-math.inf, self.state.version)], _MOST_HISTORY)

    def _take_over(self, now: float) -> Mapping[str, Urgency]:
        """Give versions to what changed: the most urgent first, so that it leads."""
        own = self.state
        changes = self.outbox.take(now)
        rows = [
            Row(row.key, own.version + number, row.data, row.value)
            for number, (row, _) in enumerate(changes, start=1)
        ]
        if rows:
            version = rows[-1].version
            own.apply(Update(own.owner, own.epoch, own.version, version, tuple(rows)))
        return {row.key: urgency for row, urgency in changes}

    def _settled(self, now: float) -> int:
        """The latest version that everybody should have heard of by now; 0 for none."""
        while len(self._history) > 1 and self._history[1][0] <= now - _SETTLING:
            self._history.popleft()
        return self._history[0][1]

    def _one(self, urgencies: Mapping[str, Urgency], base: int) -> list[Part]:
        """Everything since ``base`` in one datagram, where it fits."""
        own = self.state
        updates = [own.since(base)]
        if 2 * len(updates[0].rows) >= len(own.rows):
            # All of it is nearly as short, and of use to everybody.
            updates.insert(0, own.since(0))
        urgency = min(urgencies.values(), default=Urgency.NEW)
        for update in updates:
            if sum(map(_cost, update.rows)) <= self._message_size:
                payload = encode(update)
                if len(payload) <= self._message_size:
                    return [Part(payload, update.base, own.version, urgency)]
        return []

    def _several(self, urgencies: Mapping[str, Urgency], base: int) -> list[Part]:
        """Everything since ``base`` in pieces that are each of use alone."""
        own = self.state
        groups = self._groups(base) if base >= own.buried else []
        many = len(groups) > _MOST_PARTS
        parts = []
        for number, group in enumerate(groups):
            urgency = min(urgencies.get(row.key, Urgency.METADATA) for row in group)
            if many and (urgency is not Urgency.FAILING or number >= _MOST_URGENT_PARTS):
                break
            version = group[-1].version
            payload = encode(Update(own.owner, own.epoch, base, version, tuple(group)))
            if len(payload) > self._message_size:
                break
            parts.append(Part(payload, base, version, urgency))
            base = version
        if base != own.version:
            # Too much for datagrams: only say that there is more, and be asked for it.
            payload = encode(Update(own.owner, own.epoch, own.version, own.version, ()))
            urgency = min(urgencies.values(), default=Urgency.NEW)
            parts.append(Part(payload, own.version, own.version, urgency))
        return parts

    def _groups(self, base: int) -> list[list[Row]]:
        """What changed since ``base``, in groups that each fit a datagram."""
        rows = [row for row in self.state.rows.values() if row.version > base]
        groups: list[list[Row]] = []
        room = 0
        for row in sorted(rows, key=lambda row: row.version):
            cost = _cost(row)
            if cost > room or not groups:
                groups.append([])
                room = self._message_size - _UPDATE_OVERHEAD - len(self.state.owner.encode())
            groups[-1].append(row)
            room -= cost
        return groups

    # --- being lied about --------------------------------------------------------------------

    def said(self, payload: bytes) -> bool:
        """Whether this node broadcast exactly this lately: most of what it hears of itself."""
        return payload in self._said

    def hear_update(self, update: Update) -> None:
        """Rows came as this node's own: what it never said has to be outdone."""
        if update.epoch == self.state.epoch and not self._honest(update):
            self._owe(update.version)

    def hear(self, known: Known) -> None:
        """Somebody knows this state of this node's rows."""
        own = self.state
        if known.epoch == own.epoch and (
            known.version > own.version or known.contradicts(own.known)
        ):
            self._owe(known.version)

    def start_anew(self, epoch: int) -> None:
        """Publish under another epoch."""
        self.state.restamp(epoch, 1)
        self._announced = 0
        self._history = deque([(-math.inf, 0)], _MOST_HISTORY)
        self._on_epoch(epoch)

    def _owe(self, version: int) -> None:
        self._owed = max(version, self._owed or 0)

    def _outdo(self, now: float) -> None:
        if self._owed is None or now < self._may_outdo:
            return
        own = self.state
        version = max(self._owed, own.version) + 1
        self._owed, self._may_outdo = None, now + _OUTDO_EVERY
        self._stats.outdone += 1
        log.warning(
            "other nodes held rows of this node that it never published, or does not know any "
            "more: it publishes all of its rows anew"
        )
        if version < _MOST_VERSIONS:
            own.restamp(own.epoch, version)
        else:
            self.start_anew(own.epoch + 1)

    def _honest(self, update: Update) -> bool:
        """Whether who believed this update and hears all later ones ends up with the truth."""
        own = self.state
        if update.version < own.buried:
            # Whoever is there gets a snapshot next, whatever it holds.
            return True
        if update.version > own.version or update.damaged:
            return False
        told = {row.key: row for row in update.rows}
        for row in update.rows:
            mine = own.rows.get(row.key)
            if mine is None:
                if row.value is not None or row.version > own.buried:
                    return False
            elif row.version > mine.version or (
                row.version == mine.version and row.data != mine.data
            ):
                return False
        for mine in own.rows.values():
            if update.base < mine.version <= update.version and (
                update.base > 0 or mine.value is not None
            ):
                named = told.get(mine.key)
                if named is None or named.version != mine.version:
                    return False
        return True


def _cost(row: Row) -> int:
    return len(row.key.encode()) + len(row.data) + _ROW_OVERHEAD
