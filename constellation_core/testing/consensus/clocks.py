"""The clocks of a test's process, moved by hand while it runs.

Linux has no namespace for the time of day, and those for the clocks since the boot cannot be
moved once a process is inside. So this replaces what the ``time`` module gives; code that asks
the kernel past it (``datetime.now``) is not deceived. The consensus code does not do so.
"""

from __future__ import annotations

import time

_WALL = time.CLOCK_REALTIME
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class MovableClocks:
    """Takes the place of the process's time of day and of its clock since the boot."""

    def __init__(self) -> None:
        self._moved = {_WALL: 0.0, _BOOT: 0.0}
        self._real = time.clock_gettime
        time.time = lambda: self._gettime(_WALL)
        time.time_ns = lambda: int(self._gettime(_WALL) * 1e9)
        time.clock_gettime = self._gettime
        time.clock_gettime_ns = lambda clock: int(self._gettime(clock) * 1e9)

    def move(self, order: str) -> None:
        """``wall SECONDS``: somebody sets the time of day, to earlier if negative.

        ``sleep SECONDS``: the machine was asleep for so long, in which the clock since the boot
        went on and the monotonic clock stood still.
        """
        which, seconds = order.split()
        self._moved[{"wall": _WALL, "sleep": _BOOT}[which]] += float(seconds)

    def _gettime(self, clock: int) -> float:
        return self._real(clock) + self._moved.get(clock, 0.0)
