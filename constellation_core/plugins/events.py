"""Events for plugins: what they are, and the queue that each plugin gets them from."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

COALESCE_ABOVE = 256
"""How many events may wait before newer ones take the place of older ones."""


@dataclass(frozen=True, slots=True)
class PluginEvent:
    """One call of an event hook that is to be made.

    Attributes:
        hook: name of the hook.
        subject: what it is about, for example ``("instance", "web.node-a")``; where a queue is
            long, only the last event of a subject stays in it.
        arguments: what the hook is called with.
    """

    hook: str
    subject: tuple[str, str]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def after(self, older: PluginEvent) -> PluginEvent | None:
        """This event, told to somebody who has not heard of the ``older`` one.

        Returns:
            The event with the older one's ``previous``, or ``None`` when, seen from there,
            nothing happened.
        """
        if "previous" not in self.arguments or "previous" not in older.arguments:
            return self
        previous = older.arguments["previous"]
        if self.hook == "health_changed" and self.arguments["instance"].health == previous.health:
            return None
        return replace(self, arguments={**self.arguments, "previous": previous})


class EventQueue:
    """Keeps a plugin's events in order, in bounded memory.

    Up to :data:`COALESCE_ABOVE` events are all kept. Above that there is at most one more for
    each subject, so that memory is bounded by the number of subjects, and the last state of
    each always arrives.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, PluginEvent] = OrderedDict()
        self._latest: dict[tuple[str, str], int] = {}
        self._next = 0
        self._filled = asyncio.Event()
        self.coalesced = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: PluginEvent) -> None:
        """Append ``event``, or let it replace its subject's last one when many wait."""
        merged: PluginEvent | None = event
        if len(self._waiting) >= COALESCE_ABOVE:
            number = self._latest.pop(event.subject, None)
            older = self._waiting.pop(number, None) if number is not None else None
            if older is not None:
                self.coalesced += 1
                merged = event.after(older)
        if merged is not None:
            self._waiting[self._next] = merged
            self._latest[merged.subject] = self._next
            self._next += 1
            self._filled.set()

    async def get(self) -> PluginEvent:
        """Take the oldest event; waits for one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        number, event = self._waiting.popitem(last=False)
        if self._latest.get(event.subject) == number:
            del self._latest[event.subject]
        return event
