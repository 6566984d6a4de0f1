"""How much this node should doubt itself: Lifeguard's local health multiplier."""

from __future__ import annotations

MOST = 8


class Awareness:
    """A score from 0 (well) to 7: the worse it is, the longer others get to answer."""

    def __init__(self) -> None:
        self.score = 0

    def add(self, delta: int) -> None:
        """Raise or lower the score within its bounds."""
        self.score = max(0, min(MOST - 1, self.score + delta))

    def scale(self, seconds: float) -> float:
        """``seconds``, stretched by the score."""
        return seconds * (self.score + 1)
