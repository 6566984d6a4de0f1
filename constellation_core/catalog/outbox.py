"""What this node publishes, until it may be told: held back where it flaps, and gathered.

A pure state machine: changes and times go in, and what is to be told comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from constellation_core.catalog.damping import Damper
from constellation_core.catalog.rows import (
    INSTANCE,
    MAX_PUBLISHED,
    MAX_ROWS,
    Row,
    Value,
    instance_row,
)
from constellation_core.catalog.urgency import Urgency, urgency_of
from constellation_core.model.instance import Instance


class Outbox:
    """Changes of this node's rows on their way to the others.

    Args:
        gather: seconds that a change waits for others, so that they are told together. A failure
            does not wait.
        hold: see :class:`~constellation_core.catalog.damping.Damper`.
        show: told of every change that others will be told of, at once.

    Attributes:
        due: when there is something to :meth:`take`; infinite while there is nothing.
        size: what all rows count for; see :attr:`Row.size`.
    """

    def __init__(
        self, gather: float, hold: float, show: Callable[[str, Value | None], None]
    ) -> None:
        self.due = math.inf
        self.size = 0
        self._gather = gather
        self._hold = hold
        self._show = show
        self._dampers: dict[str, Damper] = {}
        self._unsettled: set[str] = set()
        """Keys of the dampers that hold something back, or whose instance is gone."""
        self._told: dict[str, Row] = {}
        self._before: dict[str, Row | None] = {}
        """Rows that changed since the last :meth:`take`, as they were then."""
        self._ready_at = math.inf

    def put(self, row: Row, now: float) -> None:
        """Publish this row, or its change. Its version does not matter."""
        if isinstance(row.value, Instance):
            damper = self._dampers.setdefault(row.key, Damper(self._hold))
            self._want(row.key, damper, row.value, now)
        elif self._data(row.key) != row.data:
            self._set(row.key, row, now)
        self._reckon()

    def withdraw(self, key: str, now: float) -> None:
        """Publish that it is gone; harmless when it is not there."""
        damper = self._dampers.get(key)
        if damper is not None:
            self._want(key, damper, None, now)
        elif key in self._told:
            self._set(key, None, now)
        self._reckon()

    def take(self, now: float) -> list[tuple[Row, Urgency]]:
        """What is to be told now, the most urgent first; a row without value is a removal."""
        for key in sorted(self._unsettled):
            damper = self._dampers[key]
            if damper.due <= now and damper.step(now):
                self._tell(key, damper.told, now)
            self._settle(key, damper, now)
        if self._ready_at > now:
            self._reckon()
            return []
        taken = []
        for key, before in self._before.items():
            row = self._told.get(key) or Row(key, 0, b"", None)
            if row.data != (before.data if before is not None else b""):
                old = before.value if before is not None else None
                taken.append((row, urgency_of(old, row.value)))
        self._before.clear()
        self._ready_at = math.inf
        self._reckon()
        return sorted(taken, key=lambda change: change[1])

    def value(self, key: str) -> Value | None:
        """What others are told of this row, or are about to be told."""
        row = self._told.get(key)
        return row.value if row is not None else None

    def held_back(self) -> Mapping[str, float]:
        """Instances that serve and are not told of yet since they flap, and when they will be."""
        return {
            key[len(INSTANCE) :]: self._dampers[key].due
            for key in sorted(self._unsettled)
            if self._dampers[key].holds_back
        }

    def has_room(self, row: Row) -> bool:
        """Whether a node may publish this row as well. What an instance is like always may be."""
        known = self._told.get(row.key)
        if known is not None and isinstance(row.value, Instance):
            return True
        size = self.size + row.size - (known.size if known is not None else 0)
        rows = len(self._told) + (known is None)
        return rows <= MAX_ROWS and size <= MAX_PUBLISHED

    def _want(self, key: str, damper: Damper, wanted: Instance | None, now: float) -> None:
        if damper.want(wanted, now):
            self._tell(key, damper.told, now)
        self._settle(key, damper, now)

    def _settle(self, key: str, damper: Damper, now: float) -> None:
        if damper.idle(now):
            del self._dampers[key]
            self._unsettled.discard(key)
        elif damper.wanted is None or damper.due < math.inf:
            self._unsettled.add(key)
        else:
            self._unsettled.discard(key)

    def _data(self, key: str) -> bytes:
        row = self._told.get(key)
        return row.data if row is not None else b""

    def _tell(self, key: str, instance: Instance | None, now: float) -> None:
        self._set(key, instance_row(instance, 0) if instance is not None else None, now)

    def _set(self, key: str, row: Row | None, now: float) -> None:
        before = self._told.get(key)
        self._before.setdefault(key, before)
        self.size += (row.size if row is not None else 0) - (before.size if before else 0)
        if row is None:
            self._told.pop(key, None)
        else:
            self._told[key] = row
        old = before.value if before is not None else None
        new = row.value if row is not None else None
        wait = 0.0 if urgency_of(old, new) is Urgency.FAILING else self._gather
        self._ready_at = min(self._ready_at, now + wait)
        self._show(key, new)

    def _reckon(self) -> None:
        held = min((self._dampers[key].due for key in self._unsettled), default=math.inf)
        self.due = min(self._ready_at, held)
