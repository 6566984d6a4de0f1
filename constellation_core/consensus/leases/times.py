"""How long leases live, and by how much the two sides differ in their patience."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds, but where shares are named. The same on all agents.

    A holder trusts its lease for ``ttl * (1 - margin)`` from before it asked; the leader ends it
    after ``ttl * (1 + drift) + grace`` from after it was renewed. So nobody else can hold it
    while the holder trusts it, as long as the rates of two clocks differ by less than the ratio
    of the two: with the defaults 15 %.

    Attributes:
        ttl: how long a lease lives without a renewal, where a plugin does not say otherwise.
        margin: share of the ttl that a holder does not make use of.
        drift: share of the ttl that the leader adds.
        grace: what the leader adds besides.
        gather: how long the leader collects renewals before it writes them as one entry.

    Raises:
        ValueError: for values that promise nothing.
    """

    ttl: float = 45.0
    margin: float = 0.1
    drift: float = 0.02
    grace: float = 1.0
    gather: float = 0.5

    def __post_init__(self) -> None:
        if self.ttl < 1.0 or self.grace < 0 or self.gather < 0:
            raise ValueError("a ttl has at least one second, and no time is below 0")
        if not (0.1 <= self.margin < 0.5 and 0 <= self.drift < 1):
            raise ValueError("the margin is a tenth to a half of the ttl")
        if self.gather > self.ttl / 6:
            raise ValueError("renewals wait too long for each other")

    def trusted(self, ttl: float) -> float:
        """How long a holder trusts a lease from before it asked."""
        return ttl * (1 - self.margin)

    def patience(self, ttl: float) -> float:
        """After how long the leader ends a lease that is not renewed."""
        return ttl * (1 + self.drift) + self.grace

    def interval(self, ttl: float) -> float:
        """How often a holder renews: two renewals may fail in a row."""
        return ttl / 3
