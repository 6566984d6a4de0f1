"""Time for what happens between machines."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds since the boot, those in which the machine slept included."""
    return time.clock_gettime(_CLOCK)
