"""Where the instances of all services run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from constellation_core import Service
from constellation_plugin_deploy.placement.constraints import Constraints
from constellation_plugin_deploy.placement.facts import Fleet, NodeFacts
from constellation_plugin_deploy.placement.hashing import Draws
from constellation_plugin_deploy.placement.ledger import Demand, Ledger
from constellation_plugin_deploy.placement.order import in_order
from constellation_plugin_deploy.placement.picking import Picker
from constellation_plugin_deploy.placement.ranking import rank
from constellation_plugin_deploy.placement.result import (
    Assignment,
    Refusal,
    ServiceAssignment,
)


def place(
    services: Iterable[Service],
    nodes: Iterable[NodeFacts],
    current: Mapping[str, Mapping[str, int]] | None = None,
) -> Assignment:
    """Decide how many instances of each service each node runs.

    Without ``current`` the answer follows from definitions and nodes alone: an added node takes
    its share of everything and nothing moves between the others, as long as no capacity is
    short. With ``current`` an instance stays where it runs for as long as its definition and the
    node allow it, and only what has no place is given one; more instances than are wanted are
    reduced to those that the spread, the preferences and the ranks would keep.

    Args:
        services: the definitions.
        nodes: the nodes that count as being there. How long a dead node does is the caller's
            decision; while it is in this list, its instances keep it.
        current: how many instances of which services run on which nodes. What does not exist any
            longer is passed over.

    Raises:
        ValueError: when two services, or two nodes, have the same name.
    """
    fleet = Fleet(nodes)
    ordered = in_order(services)
    run = _Run(fleet)
    # What runs is kept first, for all services: none that is new takes the room of one that runs.
    kept: dict[str, Mapping[int, int]] = {}
    if current:
        for service in ordered:
            if there := current.get(service.name):
                kept[service.name] = run.keep(service, there)
    return Assignment(
        {service.name: run.fill(service, kept.get(service.name)) for service in ordered}, fleet
    )


class _Run:
    """One placement of everything."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._constraints = Constraints(fleet)
        self._draws = Draws(fleet.names)
        self._ledger = Ledger(fleet)
        self._no_preference = (0,) * len(fleet.nodes)

    def keep(self, service: Service, there: Mapping[str, int]) -> Mapping[int, int]:
        """Keep instances where they run; how many, by node."""
        index = self._fleet.index
        allowed = self._constraints.allowed(service.placement)
        left = {index[name]: count for name, count in there.items() if count > 0 and name in index}
        demand = Demand.of(service)

        def take(node: int) -> bool:
            if not left[node] or self._ledger.take(demand, node) is not None:
                return False
            left[node] -= 1
            return True

        candidates = [node for node in allowed if node in left]
        self._pick(service, candidates, self._wanted(service), {}, take)
        return dict(self._ledger.counts(service.name))

    def fill(self, service: Service, kept: Mapping[int, int] | None) -> ServiceAssignment:
        """Place what is not placed yet."""
        wanted = self._wanted(service)
        allowed = self._constraints.allowed(service.placement)
        refused: dict[int, Refusal] = {}
        demand = Demand.of(service)

        def take(node: int) -> bool:
            refusal = self._ledger.take(demand, node)
            if refusal is not None:
                refused[node] = refusal
            return refusal is None

        before = kept or {}
        lacking = wanted - sum(before.values())
        if lacking > 0:
            self._pick(service, allowed, lacking, before, take)
        names = self._fleet.names
        return ServiceAssignment(
            service,
            wanted,
            {names[n]: count for n, count in sorted(self._ledger.counts(service.name).items())},
            {names[n]: count for n, count in sorted(before.items())},
            {names[n]: refusal for n, refusal in sorted(refused.items())},
        )

    def _wanted(self, service: Service) -> int:
        if service.mode == "global":
            return len(self._constraints.allowed(service.placement))
        return service.replicas

    def _pick(
        self,
        service: Service,
        candidates: Sequence[int],
        wanted: int,
        counts: Mapping[int, int],
        take: Callable[[int], bool],
    ) -> None:
        if not candidates or wanted <= 0:
            return
        preference = self._no_preference
        if service.placement.prefer:
            preference = self._constraints.preferences(service.placement, self._ledger.placed)
        ranked = rank(service.name, candidates, preference, self._fleet, self._draws)
        domains = [self._fleet.domains(each) for each in service.placement.spread]
        Picker(ranked, preference, domains, counts).pick(wanted, take)
