"""Which nodes a definition allows, whatever else runs there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from constellation_core import Placement
from constellation_core.model.words import listed
from constellation_plugin_deploy.placement.facts import Fleet, NodeFacts
from constellation_plugin_deploy.placement.result import Constraint, Refusal

_Wish: TypeAlias = tuple[tuple[str, ...], ...]


def refusal(placement: Placement, node: NodeFacts) -> Refusal | None:
    """Why ``placement`` does not allow ``node``; ``None`` when it does."""
    if node.refuses:
        return Refusal(Constraint.NODE, node.refuses)
    if placement.nodes and node.name not in placement.nodes:
        return Refusal(Constraint.NODES, f"it is not {listed(placement.nodes)}")
    if placement.regions and node.region not in placement.regions:
        there = f"it is in the region {node.region!r}" if node.region else "it tells no region"
        return Refusal(Constraint.REGIONS, f"{there}, not in {listed(placement.regions)}")
    if lacking := [tag for tag in placement.tags if tag not in node.tags]:
        return Refusal(Constraint.TAGS, f"it has no tag {listed(lacking)}")
    if unwanted := [tag for tag in placement.without_tags if tag in node.tags]:
        return Refusal(Constraint.WITHOUT_TAGS, f"it has the tag {listed(unwanted, 'and')}")
    return None


class Constraints:
    """Answers for a fleet, each once: most services say the same, or nothing."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._allowed: dict[_Wish, tuple[int, ...]] = {}
        self._wishes: dict[_Wish, frozenset[int]] = {}

    def allowed(self, placement: Placement) -> tuple[int, ...]:
        """The nodes that ``placement`` allows."""
        key = (placement.nodes, placement.regions, placement.tags, placement.without_tags)
        found = self._allowed.get(key)
        if found is None:
            found = tuple(
                index
                for index, node in enumerate(self._fleet.nodes)
                if refusal(placement, node) is None
            )
            self._allowed[key] = found
        return found

    def preferences(
        self, placement: Placement, placed: Mapping[str, Mapping[int, int]]
    ) -> tuple[int, ...]:
        """For each node the sum of the weights of the preferences that it meets.

        Args:
            placement: whose preferences.
            placed: where the services are that have been placed so far.
        """
        sums = [0] * len(self._fleet.nodes)
        for each in placement.prefer:
            for index in self._meeting((each.nodes, each.regions, each.tags, each.without_tags)):
                if not any(index in placed.get(other, ()) for other in each.apart_from):
                    sums[index] += each.weight
        return tuple(sums)

    def _meeting(self, wish: _Wish) -> frozenset[int]:
        found = self._wishes.get(wish)
        if found is None:
            nodes, regions, tags, without = wish
            found = frozenset(
                index
                for index, node in enumerate(self._fleet.nodes)
                if (not nodes or node.name in nodes)
                and (not regions or node.region in regions)
                and node.tags.issuperset(tags)
                and node.tags.isdisjoint(without)
            )
            self._wishes[wish] = found
        return found
