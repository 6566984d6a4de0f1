"""What placement knows of nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_TAG_PREFIX = "tag:"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node on which instances may be placed.

    Attributes:
        name: of the node.
        region: where it is; ``""`` when it does not say.
        tags: its words, ``WORD`` or ``KEY=VALUE``.
        weight: its share of the instances compared with the other nodes; more than 0.
        cpus: CPUs for instances that reserve some; ``None`` when that is not limited.
        memory: bytes for instances that reserve some; ``None`` when that is not limited.
        refuses: why it takes no instance at all, such as ``it is being drained``; ``""`` when
            it does.

    Raises:
        ValueError: when a number is out of its range.
    """

    name: str
    region: str = ""
    tags: frozenset[str] = frozenset()
    weight: float = 1.0
    cpus: float | None = None
    memory: int | None = None
    refuses: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"node {self.name!r}: the weight {self.weight!r} is not more than 0")
        if (self.cpus is not None and not 0 <= self.cpus < float("inf")) or (
            self.memory is not None and self.memory < 0
        ):
            raise ValueError(f"node {self.name!r}: its CPUs and memory are numbers of at least 0")


class Fleet:
    """The nodes, by name and in the order of their names.

    Elsewhere in this package a node is its index in :attr:`nodes`.

    Raises:
        ValueError: when two nodes have the same name.
    """

    def __init__(self, nodes: Iterable[NodeFacts]) -> None:
        self.nodes = tuple(sorted(nodes, key=lambda node: node.name))
        self.names = tuple(node.name for node in self.nodes)
        self.index = {name: index for index, name in enumerate(self.names)}
        if len(self.index) != len(self.nodes):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"two nodes are named {twice!r}")
        self._domains: dict[str, tuple[int, ...]] = {}

    @cached_property
    def even(self) -> bool:
        """Whether all nodes have the same weight."""
        return len({node.weight for node in self.nodes}) <= 1

    def domains(self, spread: str) -> tuple[int, ...]:
        """For each node the number of its domain: nodes with one number are one to ``spread``.

        Args:
            spread: as in :class:`constellation_core.Placement`. Nodes that do not say their
                region, or lack the tag, are a domain together.
        """
        found = self._domains.get(spread)
        if found is None:
            numbers: dict[str | None, int] = {}
            found = tuple(
                numbers.setdefault(_domain(node, spread), len(numbers)) for node in self.nodes
            )
            self._domains[spread] = found
        return found


def _domain(node: NodeFacts, spread: str) -> str | None:
    if spread == "node":
        return node.name
    if spread == "region":
        return node.region
    key = spread.removeprefix(_TAG_PREFIX)
    # With several values of a key, the first in the order of the alphabet counts.
    values = sorted(tag for tag in node.tags if tag == key or tag.startswith(f"{key}="))
    return values[0] if values else None
