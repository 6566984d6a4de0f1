"""Draws and ranks: that they are what they are meant to be, and stay so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_plugin_deploy.placement.facts import Fleet, NodeFacts
from constellation_plugin_deploy.placement.hashing import Draws, draw, seed
from constellation_plugin_deploy.placement.ranking import rank

NAMES = st.text(min_size=1, max_size=8)
WORD = 2**64


def by_hand(service: str, node: str) -> int:
    """The finalizer of SplitMix64, one step at a time."""
    mixed = seed(service) ^ seed(node)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % WORD
    return mixed ^ (mixed >> 31)


def ranks(services: Iterable[str], fleet: Fleet) -> list[list[str]]:
    draws, nodes = Draws(fleet.names), range(len(fleet.nodes))
    nothing = (0,) * len(fleet.nodes)
    return [
        [fleet.names[index] for index in rank(service, nodes, nothing, fleet, draws)]
        for service in services
    ]


@settings(deadline=None)
@given(NAMES, st.lists(NAMES, max_size=12, unique=True))
def test_all_lanes_at_once_are_as_each_by_itself(service: str, nodes: list[str]) -> None:
    together = Draws(nodes).of(service)
    assert together == tuple(by_hand(service, node) for node in nodes)
    assert together == tuple(draw(service, node) for node in nodes)


def test_draws_are_the_same_in_every_version() -> None:
    # Agents of two versions run beside each other, and must agree: another number here would
    # move everything in every cluster.
    assert [draw("web", node) for node in ("node-a", "node-b", "node-c")] == [
        3256923728431481922,
        5109494500374001260,
        1661075360719241070,
    ]


@settings(deadline=None)
@given(NAMES, st.lists(NAMES, min_size=2, max_size=20, unique=True), st.data())
def test_without_a_node_the_others_keep_their_order(
    service: str, names: list[str], data: st.DataObject
) -> None:
    weights = st.sampled_from((0.5, 1.0, 1.0, 3.0))
    nodes = [NodeFacts(name, weight=data.draw(weights)) for name in names]
    gone = data.draw(st.sampled_from(names))
    left = [node for node in nodes if node.name != gone]
    (with_it,), (without,) = (ranks([service], Fleet(each)) for each in (nodes, left))
    assert without == [name for name in with_it if name != gone]


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4), (1, 1, 1, 10)])
def test_each_node_is_first_as_often_as_its_weight_says(weights: tuple[int, ...]) -> None:
    fleet = Fleet(NodeFacts(f"node-{n}", weight=w) for n, w in enumerate(weights))
    services = 10_000
    found = ranks((f"service-{number}" for number in range(services)), fleet)
    firsts = Counter(each[0] for each in found)
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        deviation = sqrt(services * share * (1 - share))
        assert abs(firsts[f"node-{number}"] - services * share) < 4 * deviation


def test_who_is_second_does_not_depend_on_who_is_first() -> None:
    fleet = Fleet(NodeFacts(f"node-{number}") for number in range(5))
    services = 10_000
    found = ranks((f"service-{number}" for number in range(services)), fleet)
    pairs = Counter(tuple(each[:2]) for each in found)
    expected = services / 20
    assert len(pairs) == 20
    # Pearson's statistic has 19 degrees of freedom; 43.8 is passed once in a thousand times.
    assert sum((count - expected) ** 2 / expected for count in pairs.values()) < 43.8


def test_names_that_differ_little_draw_numbers_that_differ_in_half_of_their_bits() -> None:
    nodes = [f"node-{number}" for number in range(50)]
    draws = Draws(nodes)
    differences = [
        (one ^ other).bit_count()
        for number in range(200)
        for one, other in zip(draws.of(f"web-{number}"), draws.of(f"web-{number + 1}"), strict=True)
    ]
    assert 31.5 < sum(differences) / len(differences) < 32.5
    assert min(differences) > 8
