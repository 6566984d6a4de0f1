"""Delivers events to plugins: a queue and a worker for each, so that none delays another."""

from __future__ import annotations

import asyncio
import inspect
import logging

from constellation_core.plugins.events import EventQueue, PluginEvent
from constellation_core.plugins.guard import CANCEL_GRACE, bounded, cancel_all
from constellation_core.plugins.manager import PluginManager

log = logging.getLogger("constellation.plugins")

EVENT_TIMEOUT = 30.0
"""Seconds that one event hook may take."""


class EventDelivery:
    """Gives every plugin that listens its events, one at a time and in order."""

    def __init__(self, manager: PluginManager, *, timeout: float = EVENT_TIMEOUT) -> None:
        self._manager = manager
        self._timeout = timeout
        self._queues: dict[str, EventQueue] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}

    def open(self, name: str) -> None:
        """Begin to deliver to this plugin what is published from now on."""
        if name not in self._queues:
            self._queues[name] = EventQueue()
            self._workers[name] = asyncio.create_task(self._work(name), name=f"events:{name}")

    def publish(self, event: PluginEvent, *, only: str | None = None) -> None:
        """Queue ``event`` for all plugins that listen, or ``only`` for this one. Never blocks."""
        for name, queue in self._queues.items():
            if only in (None, name) and self._manager.implements(name, event.hook):
                queue.put(event)

    def backlog(self) -> dict[str, int]:
        """How many events wait, by plugin."""
        return {name: len(queue) for name, queue in self._queues.items()}

    async def drop(self, name: str) -> None:
        """Deliver nothing more to this plugin."""
        self._queues.pop(name, None)
        worker = self._workers.pop(name, None)
        # A worker drops its own plugin when its last error was one too many.
        if worker is not None and worker is not asyncio.current_task():
            await cancel_all([worker], grace=2 * CANCEL_GRACE)

    async def close(self) -> None:
        """End all delivery; what waits is dropped."""
        for name in list(self._queues):
            await self.drop(name)

    async def _work(self, name: str) -> None:
        queue = self._queues[name]
        while self._queues.get(name) is queue:
            event = await queue.get()
            try:
                result = self._manager.call(name, event.hook, **event.arguments)
                if inspect.isawaitable(result):
                    await bounded(result, self._timeout)
            except Exception as error:
                self._manager.count_error(name, event.hook, error)
            else:
                self._manager.count_success(name)
            # Hooks that never wait must not keep the loop to themselves.
            await asyncio.sleep(0)
