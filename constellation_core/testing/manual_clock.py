"""A clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class ManualClock:
    """A :class:`~constellation_core.plugins.context.Clock` that only :meth:`advance` moves.

    Args:
        monotonic: where :meth:`monotonic` begins, in seconds.
        time: where :meth:`time` begins, in seconds since 1970.
    """

    def __init__(self, *, monotonic: float = 1000.0, time: float = 1_700_000_000.0) -> None:
        self._now = monotonic
        self._epoch = time - monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def monotonic(self) -> float:
        """Seconds; grows by what was given to :meth:`advance`."""
        return self._now

    def time(self) -> float:
        """Seconds since 1970; moves with :meth:`monotonic`."""
        return self._epoch + self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was turned that far; 0 or less only lets other tasks run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        done = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), done))
        await done

    @property
    def sleepers(self) -> int:
        """How many wait for the clock at the moment."""
        return sum(not done.done() for _, _, done in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Turn the clock, waking sleepers in the order of their times.

        Other tasks run before the first, between, and after the last of them, so that one who
        sleeps again within the span is woken again.
        """
        target = self._now + seconds
        await _let_others_run()
        while self._sleepers and self._sleepers[0][0] <= target:
            when, _, done = heapq.heappop(self._sleepers)
            if not done.done():
                self._now = max(self._now, when)
                done.set_result(None)
                await _let_others_run()
        self._now = target
        await _let_others_run()


async def _let_others_run() -> None:
    # A few rounds: one task's result is often what the next one waits for.
    for _ in range(20):
        await asyncio.sleep(0)
