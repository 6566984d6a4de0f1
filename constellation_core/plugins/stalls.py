"""Interrupts plugin code that holds up the event loop.

Everything in an agent shares one thread. A hook that sleeps or computes instead of awaiting
would silence gossip and API alike, and the other nodes would declare this one dead. So while
code of a plugin runs, the system's interval timer runs too; when it ends, its signal raises
:class:`StalledError` in that code. What waits in C and takes no notice of signals cannot be
interrupted so, and is the one thing a plugin can do to the others.
"""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Awaitable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

STALL_LIMIT = 3.0
"""Seconds; less than it takes the other nodes to declare a silent one dead."""


class StalledError(BaseException):
    """Raised into code that holds up the event loop. No ``Exception``, lest it be caught there."""


class StallGuard:
    """Watches over code of plugins while it is installed; does nothing otherwise.

    Args:
        limit: seconds that code may run without giving the event loop back.
    """

    def __init__(self, limit: float = STALL_LIMIT) -> None:
        self.limit = limit
        self._installed = False
        self._watching = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take SIGALRM and the real-time interval timer; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, self._expired)
        self._installed = True
        try:
            yield
        finally:
            self._installed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def watching(self, limit: float | None = None) -> Iterator[None]:
        """Raise :class:`StalledError` in the block when it takes too long; nothing when nested."""
        if not self._installed or self._watching:
            yield
            return
        seconds = self.limit if limit is None else limit
        self._watching = True
        # Again and again, for code that catches even this.
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        try:
            yield
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def watched(self, work: Awaitable[T]) -> Awaitable[T]:
        """``work``, with every step that it takes between two waits watched."""
        return _Watched(work, self) if inspect.iscoroutine(work) else work

    def _expired(self, _number: int, _frame: FrameType | None) -> None:
        if self._watching:
            raise StalledError("held up the event loop, and with it the whole agent")


class _Watched(Awaitable[T]):
    def __init__(self, work: Coroutine[Any, Any, T], guard: StallGuard) -> None:
        self._work = work
        self._guard = guard

    def __await__(self) -> Generator[Any, Any, T]:
        work, guard = self._work, self._guard
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            try:
                with guard.watching():
                    waits_for = work.send(sent) if thrown is None else work.throw(thrown)
            except StopIteration as done:
                result: T = done.value
                return result
            sent = thrown = None
            try:
                sent = yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                thrown = error

    def close(self) -> None:
        """Give up on work that was never awaited."""
        self._work.close()
