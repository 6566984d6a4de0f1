"""When the leader may say that a lease is over: by its own clock only, and in its own memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constellation_core.consensus.leases.times import LeaseTimes
from constellation_core.consensus.state import Held
from constellation_core.consensus.state.operations import Expire


@dataclass(frozen=True, slots=True)
class _Seen:
    renewals: int
    due: float


class ExpiryTimers:
    """Times how long each lease has not been renewed. Pure: the caller tells the time.

    Every voter has them, so that a new leader need not begin anew: a follower sees a renewal
    later than its holder asked for it, as the leader does. What it has not seen yet when it
    is elected it sees then, and a proposal that counts fewer renewals does nothing.
    """

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._seen: dict[int, _Seen] = {}

    def observe(self, leases: Iterable[Held], now: float) -> None:
        """Take note of the leases that are held.

        Args:
            leases: all of them, as they were at some moment before ``now``.
            now: boot-time seconds. The later, the longer the leader waits.
        """
        seen: dict[int, _Seen] = {}
        for held in leases:
            before = self._seen.get(held.epoch)
            if before is None or before.renewals != held.renewals:
                before = _Seen(held.renewals, now + self._times.patience(held.ttl / 1000))
            seen[held.epoch] = before
        self._seen = seen

    def due(self, now: float) -> tuple[Expire, ...]:
        """What to propose; each does nothing if a renewal came before it."""
        return tuple(
            Expire(epoch, seen.renewals) for epoch, seen in self._seen.items() if seen.due <= now
        )

    def next_due(self) -> float | None:
        """When the next one is due, in boot-time seconds."""
        return min((seen.due for seen in self._seen.values()), default=None)
