"""Timing of short pieces of code."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median


def median_seconds(work: Callable[[], object], repetitions: int) -> float:
    """The median time that one call of ``work`` takes, without the garbage collector's part."""
    times = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(repetitions):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    finally:
        gc.enable()
    return median(times)
