"""What a benchmark gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class MissingPeerError(Exception):
    """What is to be measured beside ours is not installed; the text says how to install it."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One part of an aim.

    Attributes:
        text: as the reader should see it, such as ``full build < 10 ms``.
        met: whether the measurement of this run meets it.
    """

    text: str
    met: bool


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Figures of one run.

    Attributes:
        name: of the benchmark.
        ours: figures by name; the unit is the end of the name.
        peer: the same of the peer.
        ratio: ours divided by the peer's, of the figure that matters most.
        criteria: the aim, in parts.
    """

    name: str
    ours: Mapping[str, Any]
    peer: Mapping[str, Any]
    ratio: float
    criteria: tuple[Criterion, ...]

    @property
    def aim(self) -> str:
        """All parts of the aim in one line."""
        return ", ".join(each.text for each in self.criteria)

    @property
    def met(self) -> bool:
        """Whether every part of the aim is met."""
        return all(each.met for each in self.criteria)

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "name": self.name,
            "ours": dict(self.ours),
            "peer": dict(self.peer),
            "ratio": self.ratio,
            "aim": self.aim,
            "met": self.met,
        }


Tell = Callable[[str], None]
"""Takes a line about progress."""


class Benchmark(Protocol):
    """A module of this package that measures something."""

    SUMMARY: str

    @staticmethod
    def run(tell: Tell) -> BenchmarkResult:
        """Measure.

        Raises:
            MissingPeerError: when the peer is not installed.
        """
