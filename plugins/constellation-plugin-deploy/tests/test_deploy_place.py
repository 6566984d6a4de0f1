"""Where instances are placed: what always holds, whatever the definitions and the nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core import Placement, Port, Preference, Resources, Service
from constellation_plugin_deploy.placement import Assignment, NodeFacts, moves, place

G = 1024**3
NAMES = [f"service-{letter}" for letter in "abcdef"]
NODES = [f"node-{number}" for number in range(7)]
TAGS = ["ssd", "rack=1", "rack=2", "rack=3"]
REGIONS = ["eu", "us", ""]


def some(values: list[str], most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


def nodes(*, capacity: bool = True, least: int = 0) -> st.SearchStrategy[list[NodeFacts]]:
    unlimited: st.SearchStrategy[None] = st.none()
    return st.lists(
        st.builds(
            NodeFacts,
            name=st.sampled_from(NODES),
            region=st.sampled_from(REGIONS),
            tags=some(TAGS).map(frozenset),
            weight=st.sampled_from([1.0, 1.0, 2.5]),
            cpus=st.sampled_from([1.0, 4.0, None]) if capacity else unlimited,
            memory=st.sampled_from([G, 4 * G, None]) if capacity else unlimited,
            refuses=st.sampled_from(["", "", "", "it is being drained"]),
        ),
        min_size=least,
        unique_by=lambda node: node.name,
        max_size=len(NODES),
    )


@st.composite
def placements(
    draw: st.DrawFn, mode: str, name: str, *, alone: bool, spreads: list[tuple[str, ...]]
) -> Placement:
    tags = draw(some(TAGS, 1))
    others = [] if alone else [other for other in NAMES if other != name]
    preference = st.builds(
        Preference,
        weight=st.sampled_from([-50, 10, 60]),
        regions=st.sampled_from([("eu",), ("us",)]),
        tags=some(TAGS, 1),
        apart_from=some(others) if others else st.just(()),
    )
    return Placement(
        nodes=draw(some(NODES, 4)) if draw(st.integers(0, 3)) == 0 else (),
        regions=draw(st.sampled_from([(), (), ("eu",), ("eu", "us")])),
        tags=tags if draw(st.booleans()) else (),
        without_tags=() if tags else draw(some(TAGS, 1)),
        apart_from=draw(some(others)) if others else (),
        max_per_node=draw(st.sampled_from([None, 1, 2])) if mode == "replicated" else None,
        spread=draw(st.sampled_from(spreads)),
        prefer=() if mode == "global" else tuple(draw(st.lists(preference, max_size=2))),
    )


SPREADS = [("node",), (), ("region",), ("region", "node"), ("tag:rack", "region"), ("tag:rack",)]
NESTED = [("node",), ("region",), ("region", "node"), ("tag:rack",), ("tag:rack", "node")]


@st.composite
def services(
    draw: st.DrawFn, *, alone: bool = False, spreads: list[tuple[str, ...]] = SPREADS
) -> list[Service]:
    """Definitions; with ``alone`` none that takes anything away from another."""
    found = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
        mode = draw(st.sampled_from(["replicated", "replicated", "singleton", "global"]))
        takes = not alone and draw(st.booleans())
        found.append(
            Service(
                name,
                image="web:1",
                mode=mode,
                replicas=draw(st.integers(0, 9)) if mode == "replicated" else 1,
                ports=(Port("http", 80, host=8080),) if takes and draw(st.booleans()) else (),
                placement=draw(placements(mode, name, alone=alone, spreads=spreads)),
                resources=Resources(
                    reserve_cpu=draw(st.sampled_from([None, 0.5, 1.5])) if takes else None,
                    reserve_memory=draw(st.sampled_from([None, G // 2, G])) if takes else None,
                ),
            )
        )
    return found


def problems(
    definitions: list[Service],
    where: Mapping[str, Mapping[str, int]],
    facts: Mapping[str, NodeFacts],
) -> Iterator[str]:
    """What ``where`` does against the definitions, written anew from what the fields mean."""
    for service in definitions:
        wishes = service.placement
        for name, count in where.get(service.name, {}).items():
            node = facts[name]
            limit = wishes.max_per_node or 1000 if service.mode == "replicated" else 1
            if count > limit:
                yield f"{service.name}: {count} on {name}"
            if wishes.nodes and name not in wishes.nodes:
                yield f"{service.name}: not on {name}"
            if wishes.regions and node.region not in wishes.regions:
                yield f"{service.name}: not in {node.region}"
            if set(wishes.tags) - node.tags or set(wishes.without_tags) & node.tags:
                yield f"{service.name}: not with the tags of {name}"
            if node.refuses:
                yield f"{service.name}: {name} takes none"
            for other in wishes.apart_from:
                if where.get(other, {}).get(name):
                    yield f"{service.name}: together with {other} on {name}"
    for name, node in facts.items():
        here = [each for each in definitions for _ in range(where.get(each.name, {}).get(name, 0))]
        cpus = sum(each.resources.reserve_cpu or 0 for each in here)
        if node.cpus is not None and cpus > node.cpus + 1e-9:
            yield f"{name}: {cpus} CPUs"
        memory = sum(each.resources.reserved_bytes for each in here)
        if node.memory is not None and memory > node.memory:
            yield f"{name}: {memory} bytes"
        ports = Counter(port.host for each in here for port in each.ports)
        if any(number and count > 1 for number, count in ports.items()):
            yield f"{name}: one port twice"


def everything(assignment: Assignment) -> dict[str, dict[str, int]]:
    return {name: dict(each) for name, each in assignment.instances().items()}


def more(
    where: Mapping[str, Mapping[str, int]], service: str, node: str
) -> dict[str, dict[str, int]]:
    changed = {name: dict(each) for name, each in where.items()}
    changed[service][node] = changed[service].get(node, 0) + 1
    return changed


running = st.dictionaries(
    st.sampled_from([*NAMES, "service-gone"]),
    st.dictionaries(st.sampled_from([*NODES, "node-gone"]), st.integers(0, 3), max_size=5),
)


@settings(deadline=None)
@given(services(), nodes(), running)
def test_every_constraint_holds_and_what_has_no_node_could_have_none(
    definitions: list[Service], facts: list[NodeFacts], current: dict[str, dict[str, int]]
) -> None:
    by_name = {node.name: node for node in facts}
    result = place(definitions, facts, current)
    where = everything(result)
    assert list(problems(definitions, where, by_name)) == []
    for service in definitions:
        own = result.services[service.name]
        if service.mode != "global":
            assert own.wanted == service.replicas
        assert own.missing >= 0
        assert own.placed == own.wanted - own.missing
        assert all(own.instances[node] >= count for node, count in own.kept.items())
        if own.missing:
            for node in by_name:
                assert list(problems(definitions, more(where, service.name, node), by_name)), node


@settings(deadline=None)
@given(services(), nodes(), running, st.randoms())
def test_the_order_of_the_arguments_does_not_matter(
    definitions: list[Service],
    facts: list[NodeFacts],
    current: dict[str, dict[str, int]],
    random: object,
) -> None:
    first = place(definitions, facts, current)
    for values in (definitions, facts):
        random.shuffle(values)  # type: ignore[attr-defined]
    again = dict(sorted(current.items(), reverse=True))
    assert place(definitions, facts, again).services == first.services


@settings(deadline=None)
@given(services(alone=True, spreads=NESTED), nodes(capacity=False, least=1), st.data())
def test_a_node_more_moves_nothing_between_the_others(
    definitions: list[Service], facts: list[NodeFacts], data: st.DataObject
) -> None:
    added = data.draw(st.sampled_from(facts))
    before = place(definitions, [node for node in facts if node is not added])
    after = place(definitions, facts)
    for service in definitions:
        old, new = (each.services[service.name].instances for each in (before, after))
        grown = [name for name in new if new[name] > old.get(name, 0)]
        if before.services[service.name].missing == 0:
            assert set(grown) <= {added.name}


@settings(deadline=None)
@given(services(alone=True), nodes(capacity=False), st.data())
def test_no_service_moves_because_of_another(
    definitions: list[Service], facts: list[NodeFacts], data: st.DataObject
) -> None:
    without = data.draw(st.lists(st.sampled_from(definitions), unique_by=lambda each: each.name))
    alone = place(without, facts).instances()
    together = place(definitions, facts).instances()
    assert all(alone[service.name] == together[service.name] for service in without)


@settings(deadline=None)
@given(services(), nodes(), st.data())
def test_what_runs_stays_where_it_is(
    definitions: list[Service], facts: list[NodeFacts], data: st.DataObject
) -> None:
    there = data.draw(st.lists(st.sampled_from(facts), unique_by=lambda n: n.name)) if facts else []
    before = place(definitions, there)
    # Nodes come, or come back: what has a place keeps it, and what has none may get one.
    after = place(definitions, facts, before.instances())
    for service in definitions:
        old, new = (each.services[service.name] for each in (before, after))
        assert all(new.instances.get(node, 0) >= count for node, count in old.instances.items())
        assert new.kept == old.instances
    assert place(definitions, facts, after.instances()).instances() == after.instances()


@settings(deadline=None)
@given(services(), nodes(least=1), st.data())
def test_a_lost_node_moves_only_what_it_ran(
    definitions: list[Service], facts: list[NodeFacts], data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(facts))
    before = place(definitions, facts)
    after = place(definitions, [node for node in facts if node is not lost], before.instances())
    stopped = {move.source for move in moves(before.instances(), after.instances())} - {None}
    assert stopped <= {lost.name}


@settings(deadline=None)
@given(services(), nodes(), running)
def test_instances_that_are_too_many_are_reduced_to_those_that_are_there(
    definitions: list[Service], facts: list[NodeFacts], current: dict[str, dict[str, int]]
) -> None:
    for service in place(definitions, facts, current).services.values():
        there = current.get(service.service.name, {})
        assert all(count <= there[node] for node, count in service.kept.items())
        if sum(service.kept.values()) == service.wanted:
            assert service.instances == service.kept


@settings(deadline=None)
@given(st.integers(0, 30), nodes(capacity=False))
def test_instances_are_spread_evenly_over_regions_and_then_over_their_nodes(
    replicas: int, facts: list[NodeFacts]
) -> None:
    spread = Placement(spread=("region", "node"))
    service = Service("web", image="web:1", replicas=replicas, placement=spread)
    instances = place([service], facts).services["web"].instances
    regions: dict[str, list[int]] = {}
    for node in facts:
        if not node.refuses:
            regions.setdefault(node.region, []).append(instances.get(node.name, 0))
    for counts in [*regions.values(), [sum(counts) for counts in regions.values()] or [0]]:
        assert max(counts) - min(counts) <= 1


def fleet(size: int = 100, **facts: float) -> list[NodeFacts]:
    return [
        NodeFacts(f"node-{number}", region=("eu", "us", "ap")[number % 3], **facts)  # type: ignore[arg-type]
        for number in range(size)
    ]


def many(**fields: object) -> list[Service]:
    return [
        Service(f"service-{number}", image="web:1", replicas=1 + number % 4, **fields)  # type: ignore[arg-type]
        for number in range(400)
    ]


@pytest.mark.parametrize("spread", [("node",), ("region", "node")])
def test_one_node_more_among_n_moves_an_nth(spread: tuple[str, ...]) -> None:
    definitions = many(placement=Placement(spread=spread))
    before, after = (place(definitions, fleet(size)).instances() for size in (49, 50))
    changes = moves(before, after)
    assert {move.target for move in changes} == {"node-49"}
    # 20 of 1000 are expected, with a deviation of 4.4.
    assert 7 <= len(changes) <= 33


def test_a_lost_node_moves_its_share_also_where_capacity_is_short() -> None:
    definitions = many(resources=Resources(reserve_cpu=1.0))
    facts = fleet(50, cpus=26)
    before = place(definitions, facts)
    assert sum(each.missing for each in before.services.values()) == 0
    lost = sum(before.share("node-7").values())
    left = [node for node in facts if node.name != "node-7"]
    anew, kept = (place(definitions, left, now) for now in (None, before.instances()))
    assert len(moves(before.instances(), kept.instances())) == lost
    # Anew, those that are pushed away push others; it remains of the same order.
    assert lost <= len(moves(before.instances(), anew.instances())) <= 3 * lost


def test_larger_nodes_get_more() -> None:
    facts = fleet(20)
    facts[3] = replace(facts[3], weight=4.0)
    result = place(many(), facts)
    loads = {node.name: sum(result.share(node.name).values()) for node in facts}
    others = [load for name, load in loads.items() if name != "node-3"]
    assert 2.5 < loads["node-3"] / (sum(others) / len(others)) < 4.5


def test_a_preference_decides_among_nodes_that_spread_equally() -> None:
    facts = fleet(9)
    prefer = (Preference(regions=("eu",), weight=50), Preference(nodes=("node-0",), weight=-60))
    for replicas, regions in ((2, {"eu": 2}), (5, {"eu": 2, "other": 3})):
        service = Service(
            "web", image="web:1", replicas=replicas, placement=Placement(prefer=prefer)
        )
        instances = place([service], facts).services["web"].instances
        assert "node-0" not in instances
        found = Counter("eu" if int(name[5:]) % 3 == 0 else "other" for name in instances)
        assert found == regions


def test_without_a_spread_the_preference_comes_first_and_equals_share_evenly() -> None:
    placement = Placement(spread=(), prefer=(Preference(regions=("eu",)),))
    service = Service("web", image="web:1", replicas=6, placement=placement)
    instances = place([service], fleet(9)).services["web"].instances
    assert instances == {"node-0": 2, "node-3": 2, "node-6": 2}


def test_an_instance_that_runs_counts_for_the_spread_of_those_to_come() -> None:
    for placement in (Placement(), Placement(spread=())):
        service = Service("web", image="web:1", replicas=3, placement=placement)
        for node in ("node-0", "node-1", "node-2"):
            result = place([service], fleet(3), {"web": {node: 1}})
            assert result.instances() == {"web": {"node-0": 1, "node-1": 1, "node-2": 1}}


def test_too_many_are_reduced_so_that_the_spread_stays() -> None:
    placement = Placement(spread=("region", "node"))
    service = Service("web", image="web:1", replicas=3, placement=placement)
    # Three in one region, and two more in the two others.
    there = {"node-0": 1, "node-3": 1, "node-6": 1, "node-1": 1, "node-2": 1}
    own = place([service], fleet(9), {"web": there}).services["web"]
    assert own.instances == own.kept
    assert sorted(int(name[5:]) % 3 for name in own.instances) == [0, 1, 2]
    assert own.instances.keys() <= there.keys()


def test_global_services_come_first_and_then_those_that_need_most() -> None:
    half, all_of_it = Resources(reserve_memory=G), Resources(reserve_memory=2 * G)
    facts = [NodeFacts("node-0", memory=2 * G), NodeFacts("node-1", memory=2 * G)]
    small = Service("a-small", image="a:1", replicas=2, resources=half)
    large = Service("large", image="a:1", replicas=2, resources=all_of_it)
    result = place([small, large], facts)
    assert [each.missing for each in result.services.values()] == [0, 2]
    assert list(result.services) == ["large", "a-small"]
    everywhere = Service("z-agent", image="a:1", mode="global", resources=half)
    result = place([small, large, everywhere], facts)
    assert list(result.services) == ["z-agent", "large", "a-small"]
    assert [each.missing for each in result.services.values()] == [0, 2, 0]


def test_a_preference_to_be_apart_yields_where_there_is_no_choice() -> None:
    apart = Placement(prefer=(Preference(apart_from=("db",)),))
    web = Service("web", image="web:1", replicas=2, placement=apart)
    db = Service("db", image="db:1")
    result = place([web, db], fleet(3)).instances()
    assert not set(result["web"]) & set(result["db"])
    assert place([web, db], fleet(1)).instances() == {"web": {"node-0": 2}, "db": {"node-0": 1}}


def test_who_is_to_be_apart_yields_to_whom_it_names() -> None:
    agent = Service("agent", image="a:1", mode="global", placement=Placement(apart_from=("db",)))
    db = Service("db", image="db:1")
    result = place([agent, db], fleet(3))
    assert result.services["db"].placed == 1
    assert result.services["agent"].placed == 2
    assert result.services["agent"].missing == 1


def test_two_that_are_to_be_apart_from_each_other_both_find_a_place() -> None:
    definitions = [
        Service("one", image="a:1", placement=Placement(apart_from=("two",))),
        Service("two", image="b:1", placement=Placement(apart_from=("one",))),
    ]
    for size, placed in ((1, 1), (2, 2)):
        result = place(definitions, fleet(size))
        assert sum(each.placed for each in result.services.values()) == placed


def test_a_long_chain_of_services_that_are_apart_is_ordered() -> None:
    definitions = [Service("s-0", image="a:1")]
    for number in range(1, 2000):
        apart = Placement(apart_from=(f"s-{number - 1}",))
        definitions.append(Service(f"s-{number}", image="a:1", placement=apart))
    assert not any(each.missing for each in place(definitions, fleet(2)).services.values())


def test_what_is_new_does_not_push_away_what_runs() -> None:
    small = Service("small", image="a:1", resources=Resources(reserve_memory=G))
    large = Service("large", image="a:1", resources=Resources(reserve_memory=4 * G))
    facts = [NodeFacts("node-0", memory=4 * G)]
    before = place([small], facts)
    after = place([small, large], facts, before.instances())
    assert after.instances() == {"small": {"node-0": 1}, "large": {}}
    assert after.services["large"].missing == 1


@pytest.mark.parametrize(
    ("definitions", "facts", "message"),
    [
        ([Service("web", image="a:1")] * 2, [], "two services are named 'web'"),
        ([], [NodeFacts("a"), NodeFacts("b"), NodeFacts("a")], "two nodes are named 'a'"),
    ],
)
def test_names_are_unique(definitions: list[Service], facts: list[NodeFacts], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place(definitions, facts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": 0},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"cpus": -1.0},
        {"cpus": float("nan")},
        {"memory": -1},
    ],
)
def test_facts_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="node 'a'"):
        NodeFacts("a", **wrong)  # type: ignore[arg-type]


def test_no_nodes_and_no_services() -> None:
    assert place([], []).services == {}
    result = place([Service("web", image="a:1"), Service("g", image="a:1", mode="global")], [])
    assert (result.services["web"].missing, result.services["g"].missing) == (1, 0)
