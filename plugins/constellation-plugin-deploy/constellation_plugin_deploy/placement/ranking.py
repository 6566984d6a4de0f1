"""The order in which a service likes nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from constellation_plugin_deploy.placement.facts import Fleet
from constellation_plugin_deploy.placement.hashing import Draws, weighted


def rank(
    service: str,
    candidates: Iterable[int],
    preference: Sequence[int],
    fleet: Fleet,
    draws: Draws,
) -> list[int]:
    """``candidates``, the most preferred first, and among equals in the order of the draws.

    Args:
        service: its name.
        candidates: nodes, in the order of their names: it decides in the case of a tie.
        preference: of each node of the fleet.
        fleet: for the weights.
        draws: for the fleet's nodes.
    """
    numbers = draws.of(service)
    if fleet.even:
        ranked = sorted(candidates, key=numbers.__getitem__, reverse=True)
    else:
        nodes = fleet.nodes
        ranked = sorted(candidates, key=lambda node: weighted(numbers[node], nodes[node].weight))
    if any(preference):
        ranked.sort(key=preference.__getitem__, reverse=True)
    return ranked
