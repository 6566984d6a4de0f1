"""Supervised background tasks: restarted with backoff when they fail, and visible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from constellation_core.plugins.context import Clock
from constellation_core.plugins.guard import cancel_all, contained, explain, place

log = logging.getLogger("constellation.tasks")

LONGEST_WAIT = 60.0
"""Seconds; the wait before a restart doubles from one second up to this."""

_CANCEL_GRACE = 5.0


class TaskState(StrEnum):
    """What a supervised task does at the moment."""

    RUNNING = "running"
    WAITING = "waiting"
    """It failed and will be started again."""
    DONE = "done"
    STOPPED = "stopped"


@dataclass(slots=True)
class TaskStatus:
    """A supervised task, for ``constellation status``.

    Attributes:
        owner: the plugin, or ``core``.
        name: the task's name, unique for its owner.
        state: what it does at the moment.
        failures: how often it raised.
        last_error: the last of these.
    """

    owner: str
    name: str
    state: TaskState = TaskState.RUNNING
    failures: int = 0
    last_error: str = ""


class Supervisor:
    """Owns background tasks. To be used inside a running event loop; ended by :meth:`close`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._statuses: dict[tuple[str, str], TaskStatus] = {}

    def spawn(self, owner: str, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Run ``function()`` until it returns; start it again with backoff when it raises.

        Raises:
            TypeError: when the name is no text, or the function cannot be called.
            ValueError: when the owner has a running task of that name.
        """
        if not isinstance(name, str) or not callable(function):
            raise TypeError("a task has a name and an async function")
        key = (owner, name)
        if key in self._tasks:
            raise ValueError(f"{owner} has a task named {name!r} already")
        status = TaskStatus(owner, name)
        self._statuses[key] = status
        task = asyncio.create_task(self._run(status, function), name=f"{owner}:{name}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key, task))

    def statuses(self) -> Sequence[TaskStatus]:
        """All tasks, those that are done too, by owner and name."""
        return [self._statuses[key] for key in sorted(self._statuses)]

    async def cancel(self, owner: str, name: str | None = None) -> None:
        """Cancel all tasks of one owner, or the one of that name, and wait for the end."""
        await self._cancel(
            [key for key in self._tasks if key[0] == owner and name in (None, key[1])]
        )

    async def close(self) -> None:
        """Cancel everything and wait for the end."""
        await self._cancel(list(self._tasks))

    async def _cancel(self, keys: Sequence[tuple[str, str]]) -> None:
        tasks = {self._tasks[key]: key for key in keys}
        for task in await cancel_all(list(tasks), grace=_CANCEL_GRACE):
            log.warning("task %s takes no notice of its cancellation; left behind", task.get_name())
            # It is not waited for again.
            self._forget(tasks[task], task)

    def _forget(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    async def _run(self, status: TaskStatus, function: Callable[[], Awaitable[None]]) -> None:
        wait = 1.0
        try:
            while True:
                status.state = TaskState.RUNNING
                began = self._clock.monotonic()
                try:
                    await contained(_called(function))
                except Exception as error:
                    status.failures += 1
                    status.last_error = explain(error)
                    if self._clock.monotonic() - began > LONGEST_WAIT:
                        wait = 1.0
                    log.error(
                        "task %s:%s failed: %s, at %s; started again in %.0f s",
                        status.owner,
                        status.name,
                        status.last_error,
                        place(error),
                        wait,
                    )
                    log.debug("task %s:%s", status.owner, status.name, exc_info=error)
                else:
                    status.state = TaskState.DONE
                    return
                if _is_cancelled():
                    return
                status.state = TaskState.WAITING
                await self._clock.sleep(wait)
                wait = min(LONGEST_WAIT, wait * 2)
        finally:
            if status.state is not TaskState.DONE:
                status.state = TaskState.STOPPED


async def _called(function: Callable[[], Awaitable[None]]) -> None:
    # Called in here, so that what the function itself raises is met like what it does later.
    await function()


def _is_cancelled() -> bool:
    """Whether the task that runs was told to end, and something in it took no notice."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
