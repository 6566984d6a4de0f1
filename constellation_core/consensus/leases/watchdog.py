"""Tells holders that their time is over, also when the event loop does not come round to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from constellation_core.consensus.leases.lease import Tenure

log = logging.getLogger("constellation.leases")

LONGEST_WAIT = 1.0
"""Seconds; a thread's wait stands still while a machine sleeps, so it looks again this often."""


class Watchdog(Protocol):
    """Calls back when a tenure is over."""

    def guard(self, tenure: Tenure, over: Callable[[], None]) -> Callable[[], bool]:
        """Have ``over`` called once, on whatever thread, as soon as ``tenure`` is over.

        Returns:
            A function that calls it off, and tells whether that was in time.
        """
        ...


class ThreadWatchdog:
    """A thread that looks at the clock. It runs only while something is guarded."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._guarded: dict[int, tuple[Tenure, Callable[[], None]]] = {}
        self._number = 0
        self._thread: threading.Thread | None = None

    def guard(self, tenure: Tenure, over: Callable[[], None]) -> Callable[[], bool]:
        """As :meth:`Watchdog.guard`; ``over`` is called on a thread of its own."""
        with self._changed:
            self._number += 1
            number = self._number
            self._guarded[number] = (tenure, over)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="lease-watchdog", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        return lambda: self._call_off(number)

    def _call_off(self, number: int) -> bool:
        with self._changed:
            self._changed.notify()
            return self._guarded.pop(number, None) is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._guarded:
                    self._thread = None
                    return
                left = {number: each[0].left() for number, each in self._guarded.items()}
                over = [self._guarded.pop(number) for number, each in left.items() if each <= 0]
                if not over:
                    self._changed.wait(min(LONGEST_WAIT, *left.values()))
            for tenure, call in over:
                log.error("lease %s is lost: %s", tenure.name, tenure.reason())
                # A thread for each: what is done about one may take its time, and others end too.
                threading.Thread(target=_tell, args=(call,), name="lease-lost", daemon=True).start()


def _tell(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        log.exception("what was to be done about it failed")
