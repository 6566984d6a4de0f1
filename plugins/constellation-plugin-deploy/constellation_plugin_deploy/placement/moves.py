"""What changes from one placement to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True, slots=True)
class Move:
    """One instance that starts, stops, or starts on one node and then stops on another.

    Attributes:
        service: whose instance.
        source: the node where it stops; ``None`` when it only starts.
        target: the node where it starts; ``None`` when it only stops.
    """

    service: str
    source: str | None
    target: str | None

    def __str__(self) -> str:
        if self.source is None:
            return f"{self.service}: starts on {self.target}"
        if self.target is None:
            return f"{self.service}: stops on {self.source}"
        return f"{self.service}: moves from {self.source} to {self.target}"


def moves(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> tuple[Move, ...]:
    """The fewest changes that lead from ``before`` to ``after``.

    Args:
        before: how many instances of which services ran on which nodes.
        after: how many are to run.
    """
    return tuple(
        Move(service, source, target)
        for service in sorted({*before, *after})
        for source, target in zip_longest(
            _surplus(before.get(service, {}), after.get(service, {})),
            _surplus(after.get(service, {}), before.get(service, {})),
        )
    )


def _surplus(these: Mapping[str, int], those: Mapping[str, int]) -> Iterator[str]:
    for node in sorted(these):
        for _ in range(these[node] - those.get(node, 0)):
            yield node
