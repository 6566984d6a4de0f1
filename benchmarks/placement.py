"""Placing 1000 services on 100 nodes, and what the loss of a node moves.

Ours with two sets of services: plain ones, of which only the number of instances is said, as far
as a hash ring goes; and demanding ones, with reservations, constraints, spread over regions and
preferences. Beside it, with the plain set, a ring of the library uhashring, and the remainder of a
division, which is what one tries first. All run in the same process, and take turns.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.result import BenchmarkResult, Criterion, MissingPeerError, Tell
from benchmarks.timing import time_calls

if TYPE_CHECKING:
    from constellation_core import Service
    from constellation_plugin_deploy.placement import NodeFacts

SUMMARY = "1000 services placed on 100 nodes, and what one node's loss moves, beside a hash ring"

SERVICES = 1000
NODES = 100
ROUNDS = 5
PER_ROUND = 3
_LIMIT = 0.1
_REGIONS = ("eu", "us", "ap")

_Where: TypeAlias = Mapping[str, Mapping[str, int]]
_Way: TypeAlias = Callable[[Sequence[str]], _Where]


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes some seconds.

    Raises:
        RuntimeError: when not all instances find a node: then figures mean nothing.
    """
    nodes = {f"node-{number}": _node(number) for number in range(NODES)}
    sets = {
        "plain": [_service(number, demanding=False) for number in range(SERVICES)],
        "demanding": [_service(number, demanding=True) for number in range(SERVICES)],
    }
    wanted = {service.name: service.replicas for service in sets["plain"]}
    ours = {name: _our_way(services, nodes) for name, services in sets.items()}
    peers = {"ring": _ring(wanted), "modulo": _modulo(wanted)}

    names = list(nodes)
    tell(f"{ROUNDS} rounds of {PER_ROUND} placements of {sum(wanted.values())} instances each way")
    times: dict[str, list[float]] = {name: [] for name in (*ours, *peers)}
    for _ in range(ROUNDS):
        for name, way in (*ours.items(), *peers.items()):
            times[name].append(time_calls(lambda way=way: way(names), PER_ROUND).best)  # type: ignore[misc]

    tell("one node is lost, and comes back")
    figures = {
        name: _figures(name, way, names, min(times[name]))
        for name, way in (*ours.items(), *peers.items())
    }
    lost, by_loss, by_return = _from_current(sets["demanding"], nodes)
    stays = {"moved_by_loss": by_loss, "moved_by_return": by_return}
    plain, demanding = figures["plain"], figures["demanding"]
    return BenchmarkResult(
        "placement",
        ours={
            **plain,
            **demanding,
            **{f"demanding_from_current_{name}": count for name, count in stays.items()},
        },
        peer={**figures["ring"], **figures["modulo"]},
        ratio=round(min(times["plain"]) / min(times["ring"]), 3),
        criteria=(
            Criterion(
                f"{SERVICES} services on {NODES} nodes in under 100 ms, plain and demanding",
                max(min(times["plain"]), min(times["demanding"])) < _LIMIT,
            ),
            Criterion(
                "a lost node moves what it ran and nothing else",
                plain["plain_moved_by_loss"] == plain["plain_ran_on_lost"] and by_loss == lost,
            ),
            Criterion(
                "also anew and with demands, at most twice that",
                demanding["demanding_moved_by_loss"] <= 2 * demanding["demanding_ran_on_lost"],
            ),
            Criterion("its return moves nothing that runs", by_return == 0),
        ),
    )


def _node(number: int) -> NodeFacts:
    from constellation_plugin_deploy.placement import NodeFacts

    tags = {f"rack={number % 10}", *(["ssd"] if number % 4 == 0 else [])}
    return NodeFacts(
        f"node-{number}",
        region=_REGIONS[number % len(_REGIONS)],
        tags=frozenset(tags),
        cpus=16,
        memory=64 * 1024**3,
    )


def _service(number: int, *, demanding: bool) -> Service:
    from constellation_core import Placement, Preference, Resources, Service

    name, replicas = f"service-{number}", (1, 2, 2, 3, 5)[number % 5]
    if not demanding:
        return Service(name, image="web:1", replicas=replicas)
    placement = Placement(
        tags=("ssd",) if number % 7 == 0 else (),
        without_tags=("ssd",) if number % 7 == 1 else (),
        spread=("region", "node") if number % 3 == 0 else ("node",),
        max_per_node=1 if number % 2 else None,
        apart_from=(f"service-{number - 1}",) if number % 10 == 9 else (),
        prefer=(Preference(regions=("eu",)),) if number % 11 == 0 else (),
    )
    # About half of what the nodes have.
    resources = Resources(reserve_cpu=(0.1, 0.25, 0.5)[number % 3], reserve_memory="1G")
    return Service(name, image="web:1", replicas=replicas, placement=placement, resources=resources)


def _our_way(services: Sequence[Service], nodes: Mapping[str, NodeFacts]) -> _Way:
    from constellation_plugin_deploy.placement import place

    def way(names: Sequence[str]) -> _Where:
        result = place(services, [nodes[name] for name in names])
        if any(each.missing for each in result.services.values()):
            raise RuntimeError("not all instances have a node")
        return result.instances()

    return way


def _ring(wanted: Mapping[str, int]) -> _Way:
    try:
        from uhashring import HashRing  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingPeerError(
            f"uhashring is not installed; install it with: {sys.executable} -m pip install "
            "uhashring"
        ) from error

    def way(names: Sequence[str]) -> _Where:
        ring = HashRing(nodes=list(names))
        return {
            name: {node["nodename"]: 1 for node in ring.range(name, size=count, unique=True)}
            for name, count in wanted.items()
        }

    return way


def _modulo(wanted: Mapping[str, int]) -> _Way:
    def way(names: Sequence[str]) -> _Where:
        where = {}
        for name, count in wanted.items():
            digest = blake2b(name.encode(), digest_size=8).digest()
            first = int.from_bytes(digest, "little")
            where[name] = {names[(first + each) % len(names)]: 1 for each in range(count)}
        return where

    return way


def _figures(name: str, way: _Way, names: Sequence[str], seconds: float) -> dict[str, float]:
    # One from the middle: the last of the list would be kind to the remainders.
    lost = names[len(names) // 2]
    before, after = way(names), way([each for each in names if each != lost])
    load = _load(before)
    return {
        f"{name}_ms": round(seconds * 1000, 1),
        f"{name}_ran_on_lost": load[lost],
        f"{name}_moved_by_loss": _moved(before, after),
        f"{name}_fullest_per_mean": round(max(load.values()) * len(names) / load.total(), 2),
    }


def _from_current(
    services: Sequence[Service], nodes: Mapping[str, NodeFacts]
) -> tuple[int, int, int]:
    """What ran on a lost node, and how many move when it goes, and when it comes back."""
    from constellation_plugin_deploy.placement import place

    first = place(services, nodes.values()).instances()
    lost = list(nodes)[NODES // 2]
    left = [node for node in nodes.values() if node.name != lost]
    without = place(services, left, first).instances()
    again = place(services, nodes.values(), without).instances()
    return _load(first)[lost], _moved(first, without), _moved(without, again)


def _load(where: _Where) -> Counter[str]:
    load: Counter[str] = Counter()
    for instances in where.values():
        load.update(instances)
    return load


def _moved(before: _Where, after: _Where) -> int:
    """How many instances start somewhere."""
    return sum(
        max(0, count - before[service].get(node, 0))
        for service, instances in after.items()
        for node, count in instances.items()
    )
