"""Waiting for something to become true, with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTimeError(AssertionError):
    """What was waited for did not happen; the text says what it was, and how things stood."""


async def until(
    condition: Callable[[], Awaitable[T]],
    timeout: float,
    what: str,
    *,
    interval: float = 0.05,
    explain: Callable[[], str] | None = None,
) -> T:
    """Call ``condition`` again and again until it gives something true.

    Args:
        condition: awaited anew every ``interval`` seconds; what it raises ends the waiting.
        timeout: seconds; a condition that hangs is cancelled when they are over.
        what: what is waited for, as it reads after "waited 10 s in vain for".
        interval: seconds between two calls.
        explain: how things stand, added to the error's text.

    Returns:
        What the condition gave.

    Raises:
        NotInTimeError: when the time is over.
    """
    last: object = None
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            while True:
                value = await condition()
                if value:
                    return value
                last = value
                await asyncio.sleep(interval)
    except TimeoutError:
        if not deadline.expired():
            raise
        stand = explain() if explain is not None else ""
        seen = f"; last seen: {last!r}" if last is not None and last is not False else ""
        raise NotInTimeError(
            f"waited {timeout:g} s in vain for {what}{seen}{': ' + stand if stand else ''}"
        ) from None


async def until_so(condition: Callable[[], object], timeout: float, what: str) -> None:
    """As :func:`until`, for a condition that is not awaited.

    Raises:
        NotInTimeError: when the time is over.
    """

    async def ask() -> object:
        return condition()

    await until(ask, timeout, what)
