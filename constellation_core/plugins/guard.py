"""Runs code of plugins so that nothing it raises, and no time it takes, reaches the agent.

Plain ``except Exception`` is not enough for that. ``SystemExit`` and ``KeyboardInterrupt`` leave
a task through the event loop and end the agent; a ``CancelledError`` that nobody asked for ends
the task that awaits the plugin, in silence; and a coroutine that takes no notice of its
cancellation is waited for without end by ``asyncio.timeout``.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable
from typing import TypeVar

from constellation_core.plugins.stalls import StalledError

T = TypeVar("T")

_LONGEST_TEXT = 500
"""Characters of an error's text that are told."""

CANCEL_GRACE = 1.0
"""Seconds that something cancelled may take to clean up before it is left behind."""


class PluginRaisedError(Exception):
    """A plugin raised what would have ended more than itself; the text names it."""


def explain(error: BaseException) -> str:
    """``TypeName: message``, on one line, for lists and logs."""
    if isinstance(error, PluginRaisedError):
        return str(error)
    try:
        text = " ".join(str(error).split())
    except Exception as worse:
        text = f"(its text cannot be had: {type(worse).__name__})"
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]} …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place(error: BaseException) -> str:
    """Where an error was raised, ``FILE:LINE``, for a log in which no traceback stands."""
    while isinstance(error, PluginRaisedError) and error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__, limit=-2)
    if isinstance(error, StalledError):
        # The last one is the signal's handler.
        frames.pop()
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


async def contained(work: Awaitable[T]) -> T:
    """Await ``work``; only an ``Exception`` comes out of it, or the caller's own cancellation.

    Raises:
        PluginRaisedError: in place of ``SystemExit``, ``KeyboardInterrupt`` and the like, and
            of a ``CancelledError`` that nobody asked for.
    """
    try:
        return await work
    except (Exception, GeneratorExit):
        # The latter is how Python lets go of a coroutine that is not needed any more.
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise PluginRaisedError(explain(error)) from error
    except BaseException as error:
        raise PluginRaisedError(explain(error)) from error


async def bounded(work: Awaitable[T], seconds: float, *, grace: float = CANCEL_GRACE) -> T:
    """Await ``work``, in a task of its own, for at most ``seconds``.

    What still runs then is cancelled, and left behind when it takes no notice within ``grace``.

    Raises:
        TimeoutError: when it took longer.
        Exception: what ``work`` raised; see :func:`contained`.
    """
    task: asyncio.Task[T] = asyncio.create_task(contained(work))
    # What is left behind ends some day, and nobody asks it how.
    task.add_done_callback(_forget)
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        await cancel_all((task,), grace=grace)
        raise
    if done:
        try:
            return task.result()
        except GeneratorExit as error:
            raise PluginRaisedError(explain(error)) from error
    await cancel_all((task,), grace=grace)
    raise TimeoutError(f"took longer than {seconds:g} s")


async def cancel_all(
    tasks: tuple[asyncio.Task[T], ...] | list[asyncio.Task[T]], *, grace: float = CANCEL_GRACE
) -> list[asyncio.Task[T]]:
    """Cancel tasks and wait for their end, for at most ``grace`` seconds.

    Returns:
        Those that run on all the same.
    """
    for task in tasks:
        task.cancel()
    if not tasks:
        return []
    _, remaining = await asyncio.wait(tasks, timeout=grace)
    return list(remaining)


def _forget(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
