"""Timing of short pieces of code."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that one call took.

    Attributes:
        best: of all calls: what the code costs when nothing else runs on the machine.
        median: of all calls.
    """

    best: float
    median: float


def time_calls(work: Callable[[], object], repetitions: int) -> Timing:
    """Time calls of ``work``, without the garbage collector, and without freeing its result."""
    times = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(repetitions):
            began = time.perf_counter()
            result = work()
            times.append(time.perf_counter() - began)
            del result
    finally:
        gc.enable()
    return Timing(min(times), median(times))
