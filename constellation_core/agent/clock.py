"""Real time, as plugins get it."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's clocks and the event loop's sleep."""

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)
