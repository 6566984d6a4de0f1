"""How many bytes may be spent on broadcasts now."""

from __future__ import annotations


class TokenBucket:
    """Fills with ``rate`` bytes per second up to ``burst``; starts full."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def available(self, now: float) -> int:
        """Bytes that may be spent at ``now`` (seconds of any clock that never goes back)."""
        if self._at is not None:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0, int(self._level))

    def spend(self, amount: int) -> None:
        """Take ``amount`` bytes out."""
        self._level -= amount
