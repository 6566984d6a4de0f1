"""What is taken on each node while services are placed one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from constellation_core import Service
from constellation_core.model.resources import size_in_words
from constellation_plugin_deploy.placement.facts import Fleet
from constellation_plugin_deploy.placement.result import Constraint, Refusal


@dataclass(frozen=True, slots=True)
class Demand:
    """What one instance of a service takes on its node, and how many a node may run.

    CPUs are counted in thousandths: sums of whole numbers do not depend on their order.
    """

    service: str
    milli_cpus: int
    memory: int
    ports: tuple[tuple[int, str], ...]
    apart_from: tuple[str, ...]
    most: int | None
    """How many one node may run."""
    limit: Constraint
    """What says so."""

    @classmethod
    def of(cls, service: Service) -> Demand:
        """What ``service`` takes."""
        resources, placement = service.resources, service.placement
        ports: tuple[tuple[int, str], ...] = ()
        if service.ports and (fixed := service.host_ports):
            ports = tuple(
                (fixed[port.name], port.protocol) for port in service.ports if port.name in fixed
            )
        replicated = service.mode == "replicated"
        return cls(
            service.name,
            ceil(round((resources.reserve_cpu or 0) * 1000, 6)),
            resources.reserved_bytes,
            ports,
            placement.apart_from,
            placement.max_per_node if replicated else 1,
            Constraint.MAX_PER_NODE if replicated else Constraint.MODE,
        )


class Ledger:
    """Counts what nodes have left, and where services run."""

    def __init__(self, fleet: Fleet) -> None:
        self.placed: dict[str, dict[int, int]] = {}
        self._apart_from_me: dict[str, set[str]] = {}
        self._milli_cpus = [
            None if node.cpus is None else int(round(node.cpus * 1000, 6)) for node in fleet.nodes
        ]
        self._memory = [node.memory for node in fleet.nodes]
        self._ports: list[dict[tuple[int, str], str]] = [{} for _ in fleet.nodes]

    def take(self, demand: Demand, node: int) -> Refusal | None:
        """Place one instance on ``node``, or say why it cannot be."""
        here = self.placed.setdefault(demand.service, {})
        count = here.get(node, 0)
        if demand.most is not None and count >= demand.most:
            return Refusal(demand.limit, f"it runs {count} of it, and may run {demand.most}")
        found = self._neighbour(demand, node) or self._lacking(demand, node)
        if found is None:
            self._charge(demand, node)
            here[node] = count + 1
        return found

    def _neighbour(self, demand: Demand, node: int) -> Refusal | None:
        for other in demand.apart_from:
            if node in self.placed.get(other, ()):
                return Refusal(Constraint.APART_FROM, f"it runs {other!r}")
        # The other way round: who is to be apart from this one, and has been placed before it.
        for other in self._apart_from_me.get(demand.service, ()):
            if node in self.placed.get(other, ()):
                reason = f"it runs {other!r}, which is to be apart from {demand.service!r}"
                return Refusal(Constraint.APART_FROM, reason)
        return None

    def _lacking(self, demand: Demand, node: int) -> Refusal | None:
        taken = self._ports[node]
        for port in demand.ports:
            if port in taken:
                number, protocol = port
                reason = f"its {protocol} port {number} is taken by {taken[port]!r}"
                return Refusal(Constraint.PORTS, reason)
        cpus = self._milli_cpus[node]
        if cpus is not None and demand.milli_cpus > cpus:
            needed = demand.milli_cpus / 1000
            reason = f"it has {cpus / 1000:g} CPUs left, and {needed:g} are needed"
            return Refusal(Constraint.CPU, reason)
        memory = self._memory[node]
        if memory is not None and demand.memory > memory:
            reason = (
                f"it has {size_in_words(memory) if memory else 'nothing'} of its memory left, "
                f"and {size_in_words(demand.memory)} are needed"
            )
            return Refusal(Constraint.MEMORY, reason)
        return None

    def _charge(self, demand: Demand, node: int) -> None:
        for other in demand.apart_from:
            self._apart_from_me.setdefault(other, set()).add(demand.service)
        for port in demand.ports:
            self._ports[node][port] = demand.service
        cpus, memory = self._milli_cpus[node], self._memory[node]
        if cpus is not None:
            self._milli_cpus[node] = cpus - demand.milli_cpus
        if memory is not None:
            self._memory[node] = memory - demand.memory

    def counts(self, service: str) -> Mapping[int, int]:
        """How many instances of ``service`` each node has."""
        return self.placed.get(service, {})
