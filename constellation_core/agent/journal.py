"""Recent events, for ``constellation events`` and the API: a ring in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from constellation_core.plugins.context import Clock

_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        id: grows by one with every event of this agent's life.
        at: wall-clock seconds since 1970.
        kind: ``node-joined``, ``health-changed``, ``plugin-failed`` ...
        subject: the node, instance, service or plugin.
        detail: one line for people.
        data: the same for machines.
    """

    id: int
    at: float
    kind: str
    subject: str
    detail: str
    data: Mapping[str, Any]


class EventJournal:
    """The last events, and a way to wait for more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._last = 0
        self._added = asyncio.Event()

    def add(self, kind: str, subject: str, detail: str, **data: Any) -> None:
        """Note an event."""
        self._last += 1
        self._events.append(Event(self._last, self._clock.time(), kind, subject, detail, data))
        self._added.set()
        self._added = asyncio.Event()

    @property
    def last_id(self) -> int:
        """The id of the newest event; 0 before the first."""
        return self._last

    def after(self, event_id: int) -> list[Event]:
        """The events after the one with this id that are still kept, oldest first."""
        return [event for event in self._events if event.id > event_id]

    def documents_after(self, event_id: int) -> list[dict[str, Any]]:
        """As :meth:`after`, for JSON."""
        return [asdict(event) for event in self.after(event_id)]

    async def follow(self, event_id: int) -> AsyncIterator[dict[str, Any]]:
        """The events after the one with this id, then all that come; for JSON."""
        while True:
            added = self._added
            for event in self.after(event_id):
                event_id = event.id
                yield asdict(event)
            await added.wait()
