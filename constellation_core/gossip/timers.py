"""Timers of a state machine that is told the time by its driver."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """A call that is to be made at some time, unless it is cancelled."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not make the call; harmless when it was made already."""
        self.callback = None


class Timers:
    """A heap of timers and the current time, both owned by one state machine."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback()`` when the time is ``when``."""
        timer = Timer(when, callback)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback()`` in so many seconds."""
        return self.call_at(self.now + seconds, callback)

    def repeat(self, first: float, interval: float, callback: Callable[[], None]) -> None:
        """Call ``callback()`` in ``first`` seconds, and every ``interval`` seconds from then on."""

        def tick() -> None:
            self.call_later(interval, tick)
            callback()

        self.call_later(first, tick)

    def postpone(self, timer: Timer, seconds: float) -> Timer:
        """Let the call of ``timer`` be made later; returns the timer that stands for it now."""
        callback = timer.callback
        if callback is None:
            return timer
        timer.cancel()
        return self.call_at(timer.when + seconds, callback)

    def next_deadline(self) -> float | None:
        """When the next timer is due, or ``None`` without one."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Make all calls that are due now; calls that these add for now wait for the next time."""
        due = []
        while self._heap and self._heap[0][0] <= self.now:
            due.append(heapq.heappop(self._heap)[2])
        waiting = iter(due)
        try:
            for timer in waiting:
                callback, timer.callback = timer.callback, None
                if callback is not None:
                    callback()
        finally:
            # Whatever one of them raises: the others are made the next time.
            for timer in waiting:
                heapq.heappush(self._heap, (timer.when, next(self._order), timer))
