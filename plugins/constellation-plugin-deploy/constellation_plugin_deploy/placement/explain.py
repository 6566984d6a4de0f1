"""Why the instances of a service are where they are, and not elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from constellation_core import Placement
from constellation_core.model.words import did_you_mean, listed, nearest
from constellation_plugin_deploy.placement.constraints import Constraints, refusal
from constellation_plugin_deploy.placement.facts import Fleet
from constellation_plugin_deploy.placement.hashing import Draws
from constellation_plugin_deploy.placement.ranking import rank
from constellation_plugin_deploy.placement.result import Assignment, Constraint, ServiceAssignment


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one node.

    Attributes:
        node: its name.
        instances: how many it runs.
        constraint: what forbids that it runs one, or one more; ``None`` when nothing does, or
            when it was not asked, because no more were wanted.
        reason: why so, for people.
    """

    node: str
    instances: int
    constraint: Constraint | None
    reason: str

    def __str__(self) -> str:
        return f"{self.node} ({self.instances}): {self.reason}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was decided about one service.

    Attributes:
        service: its name.
        wanted: how many instances there are to be.
        placed: how many have a node.
        nodes: what was decided about each node, in the order of their names.
        hints: names in its constraints that fit nothing there is, with what may be meant.
    """

    service: str
    wanted: int
    placed: int
    nodes: tuple[Verdict, ...]
    hints: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """All in one line: how many are placed, and if some are not, what excludes which nodes."""
        if self.placed == self.wanted:
            return f"{self.placed} of {self.wanted} placed"
        told = [f"{self.wanted - self.placed} of {self.wanted} have no node"]
        told += self.hints or ()
        groups: dict[tuple[Constraint, str], list[str]] = {}
        for each in self.nodes:
            if each.constraint is not None:
                groups.setdefault((each.constraint, each.reason), []).append(each.node)
        told += [
            f"{constraint} excludes {listed(nodes, 'and')}: {reason}"
            for (constraint, reason), nodes in groups.items()
        ]
        return "; ".join(told if self.nodes else [*told, "there are no nodes"])


def explain(assignment: Assignment, service: str) -> Explanation:
    """Why ``service`` is placed as it is.

    Raises:
        KeyError: when it is not among those that were placed.
    """
    own = assignment.services[service]
    return Explanation(
        service,
        own.wanted,
        own.placed,
        tuple(_verdicts(assignment, own)),
        tuple(_hints(own.service.placement, assignment.fleet)),
    )


def _verdicts(assignment: Assignment, own: ServiceAssignment) -> Iterator[Verdict]:
    fleet, placement = assignment.fleet, own.service.placement
    constraints = Constraints(fleet)
    preference = constraints.preferences(placement, _placed_before(assignment, own))
    allowed = constraints.allowed(placement)
    ranked = rank(own.service.name, allowed, preference, fleet, Draws(fleet.names))
    place = {node: number for number, node in enumerate(ranked, 1)}
    last = max((place[fleet.index[name]] for name in own.instances), default=0)
    for index, node in enumerate(fleet.nodes):
        count = own.instances.get(node.name, 0)
        found = own.refused.get(node.name) or refusal(placement, node)
        if not count and found is not None:
            yield Verdict(node.name, 0, found.constraint, found.reason)
            continue
        reason = f"it is number {place[index]} of {len(ranked)} in the order of this service"
        if preference[index]:
            reason += f", preferred by {preference[index]:+d}"
        if kept := min(count, own.kept.get(node.name, 0)):
            reason = "it runs there already" if kept == count else f"{kept} ran already; {reason}"
        elif not count:
            reason += _not_needed(own, place[index] < last)
        if found is not None:
            reason += f"; no more, since {found.reason}"
        yield Verdict(node.name, count, found.constraint if found else None, reason)


def _not_needed(own: ServiceAssignment, outranks: bool) -> str:
    """Why a node that could run one does not."""
    if own.wanted == 0:
        return ", and none is wanted"
    if outranks and own.kept:
        return "; others stay where they run"
    if outranks:
        return f"; instances are spread over {listed(own.service.placement.spread, 'and')}"
    return f", and the {own.wanted} that are wanted are on others"


def _placed_before(
    assignment: Assignment, own: ServiceAssignment
) -> Mapping[str, Mapping[int, int]]:
    """What was known of the other services when ``own`` was placed."""
    index = assignment.fleet.index
    placed: dict[str, Mapping[int, int]] = {}
    earlier = True
    for name, other in assignment.services.items():
        earlier = earlier and other is not own
        there = other.instances if earlier else other.kept
        placed[name] = {index[node]: count for node, count in there.items()}
    return placed


def _hints(placement: Placement, fleet: Fleet) -> Iterator[str]:
    tags = {tag for node in fleet.nodes for tag in node.tags}
    regions = {node.region for node in fleet.nodes if node.region}
    yield from _unknown("node", placement.nodes, fleet.index)
    yield from _unknown("region", placement.regions, regions)
    yield from _unknown("tag", placement.tags, tags)


def _unknown(kind: str, names: Collection[str], known: Collection[str]) -> Iterator[str]:
    whose = "there is no node" if kind == "node" else f"no node has the {kind}"
    for name in names:
        if name not in known:
            yield f"{whose} {name!r}{did_you_mean(nearest(name, known))}"
