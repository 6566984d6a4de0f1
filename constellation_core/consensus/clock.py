"""The clock by which leases are counted: one machine's, never compared with another's."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

# CLOCK_MONOTONIC stands still while a machine sleeps, and other machines do not wait for it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class BootClock(Protocol):
    """Seconds since the boot, those in which the machine slept included; and waiting."""

    def boottime(self) -> float:
        """Seconds; never goes back, and nobody sets it. May be called on any thread."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait about that long; longer when the machine sleeps."""
        ...


class SystemBootClock:
    """The machine's."""

    def boottime(self) -> float:
        """Seconds since the boot."""
        return time.clock_gettime(_CLOCK)

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)
