"""The next node, beside a search that looks at all of them each time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_plugin_deploy.placement.picking import Picker

SIZE = 6


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[list[int], list[int], list[list[int]], dict[int, int], list[int], int]:
    def per_node(strategy: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(strategy, min_size=SIZE, max_size=SIZE))

    preference = per_node(st.sampled_from([0, 0, 0, 5, -5]))
    nodes = draw(st.lists(st.integers(0, SIZE - 1), unique=True))
    ranked = sorted(nodes, key=preference.__getitem__, reverse=True)
    domains = [per_node(st.integers(0, 2)) for _ in range(draw(st.integers(0, 3)))]
    counts = draw(st.dictionaries(st.integers(0, SIZE - 1), st.integers(1, 3)))
    room = per_node(st.integers(0, 4))
    return ranked, preference, domains, counts, room, draw(st.integers(0, 15))


@settings(deadline=None, max_examples=300)
@given(cases())
def test_each_instance_goes_to_the_node_with_the_least_key(
    case: tuple[list[int], list[int], list[list[int]], dict[int, int], list[int], int],
) -> None:
    ranked, preference, domains, counts, room, wanted = case
    left = list(room)
    picked: list[int] = []
    asked: list[int] = []

    def take(node: int) -> bool:
        asked.append(node)
        if not left[node]:
            return False
        left[node] -= 1
        picked.append(node)
        return True

    Picker(ranked, preference, domains, counts).pick(wanted, take)

    expected: list[int] = []
    has = [counts.get(node, 0) for node in range(SIZE)]
    free = {node: room[node] for node in ranked}
    while len(expected) < wanted and any(free.values()):

        def key(node: int) -> tuple[int, ...]:
            there = [
                sum(has[other] for other in range(SIZE) if each[other] == each[node])
                for each in domains
            ]
            return (*there, -preference[node], has[node], ranked.index(node))

        best = min((node for node in ranked if free[node]), key=key)
        has[best] += 1
        free[best] -= 1
        expected.append(best)
    assert picked == expected
    # Who cannot take one is asked once.
    assert len(asked) - len(picked) <= len(ranked)
