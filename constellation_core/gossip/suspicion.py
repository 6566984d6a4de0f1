"""How long a suspected node has to answer: Lifeguard's dynamic suspicion.

The time shrinks with every node that confirms the suspicion, from ``longest`` to ``shortest``.

Source: Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate
Failure Detection" (2018), and memberlist's ``suspicion.go``.
"""

from __future__ import annotations

import math


class Suspicion:
    """One running suspicion.

    Args:
        started: when it began, in seconds of the protocol's clock.
        source: who began it; only others count as confirmation.
        shortest: seconds to wait once ``expected`` others have confirmed.
        longest: seconds to wait without any confirmation.
        expected: how many confirmations bring it down to ``shortest``.
    """

    def __init__(
        self, started: float, source: str, shortest: float, longest: float, expected: int
    ) -> None:
        self._started = started
        self._shortest = shortest
        self._longest = longest
        self._expected = expected
        self._sources = {source}

    @property
    def deadline(self) -> float:
        """When the node is to be declared dead, if nothing is heard of it."""
        if self._expected < 1:
            return self._started + self._shortest
        confirmed = len(self._sources) - 1
        share = math.log(confirmed + 1) / math.log(self._expected + 1)
        wait = self._longest - share * (self._longest - self._shortest)
        return self._started + max(self._shortest, wait)

    def confirm(self, source: str) -> bool:
        """Count a confirmation; whether it was new and still wanted, and so worth telling."""
        if len(self._sources) - 1 >= self._expected or source in self._sources:
            return False
        self._sources.add(source)
        return True

    def postpone(self, seconds: float) -> None:
        """Grant more time, because this node itself was not running for so long."""
        self._started += seconds


def suspicion_times(
    multiplier: float, most: int, nodes: int, interval: float
) -> tuple[float, float]:
    """Shortest and longest suspicion in a cluster of ``nodes`` probed every ``interval`` s."""
    scale = max(1.0, math.log10(max(1.0, nodes)))
    shortest = multiplier * scale * interval
    return shortest, most * shortest
