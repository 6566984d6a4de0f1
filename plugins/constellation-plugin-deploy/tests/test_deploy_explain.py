"""What people are told about a placement."""

from __future__ import annotations

import pytest

from constellation_core import Placement, Port, Preference, Resources, Service
from constellation_plugin_deploy.placement import (
    Constraint,
    Explanation,
    Move,
    NodeFacts,
    explain,
    moves,
    place,
)

G = 1024**3
A = NodeFacts("node-a", region="eu", tags=frozenset({"ssd", "rack=1"}), cpus=2, memory=4 * G)
B = NodeFacts("node-b", region="us", tags=frozenset({"old"}), cpus=2, memory=4 * G)
C = NodeFacts("node-c", refuses="it is being drained")


def told(*services: Service, nodes: tuple[NodeFacts, ...] = (A, B, C)) -> Explanation:
    """What is said of the last of ``services``."""
    return explain(place(services, nodes), services[-1].name)


def web(**fields: object) -> Service:
    return Service("web", image="web:1", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("service", "node", "constraint", "reason"),
    [
        (web(), "node-c", Constraint.NODE, "it is being drained"),
        (
            web(placement=Placement(nodes=("node-b", "node-c"))),
            "node-a",
            Constraint.NODES,
            "it is not node-b or node-c",
        ),
        (
            web(placement=Placement(regions=("us",))),
            "node-a",
            Constraint.REGIONS,
            "it is in the region 'eu', not in us",
        ),
        (web(placement=Placement(tags=("ssd",))), "node-b", Constraint.TAGS, "it has no tag ssd"),
        (
            web(placement=Placement(without_tags=("old", "slow"))),
            "node-b",
            Constraint.WITHOUT_TAGS,
            "it has the tag old",
        ),
        (
            web(replicas=9, placement=Placement(max_per_node=2)),
            "node-a",
            Constraint.MAX_PER_NODE,
            "no more, since it runs 2 of it, and may run 2",
        ),
        (
            web(replicas=9, ports=(Port("http", 80, host=8080),)),
            "node-b",
            Constraint.PORTS,
            "no more, since its tcp port 8080 is taken by 'web'",
        ),
        (
            web(replicas=9, resources=Resources(reserve_cpu=0.75)),
            "node-a",
            Constraint.CPU,
            "no more, since it has 0.5 CPUs left, and 0.75 are needed",
        ),
        (
            web(resources=Resources(reserve_memory="5G")),
            "node-a",
            Constraint.MEMORY,
            "it has 4G of its memory left, and 5G are needed",
        ),
        (
            web(replicas=9, resources=Resources(reserve_memory="4G")),
            "node-a",
            Constraint.MEMORY,
            "no more, since it has nothing of its memory left, and 4G are needed",
        ),
    ],
)
def test_each_constraint_says_of_the_node_what_it_lacks(
    service: Service, node: str, constraint: Constraint, reason: str
) -> None:
    verdict = next(each for each in told(service).nodes if each.node == node)
    assert verdict.constraint is constraint
    assert verdict.reason == reason or verdict.reason.endswith(f"; {reason}")


def test_a_node_with_a_neighbour_that_is_to_be_far_says_which() -> None:
    db = Service("db", image="db:1", placement=Placement(nodes=("node-a",)))
    verdict = told(db, web(replicas=9, placement=Placement(apart_from=("db",)))).nodes[0]
    assert (verdict.constraint, verdict.reason) == (Constraint.APART_FROM, "it runs 'db'")
    # The other way round, when the one that says so came first: each names the other.
    one = Service("one", image="a:1", placement=Placement(apart_from=("two",)))
    two = Service("two", image="a:1", placement=Placement(apart_from=("one",)))
    result = place([one, two], [A])
    (missing,) = (name for name, each in result.services.items() if each.missing)
    assert "which" not in explain(result, missing).nodes[0].reason


def test_one_that_came_before_and_names_it_is_told_too() -> None:
    # It runs already, so it keeps its place, though it would have to yield otherwise.
    agent = Service("agent", image="a:1", placement=Placement(apart_from=("db",)))
    db = Service("db", image="db:1")
    found = explain(place([agent, db], [A], {"agent": {"node-a": 1}}), "db")
    assert found.nodes[0].reason == "it runs 'agent', which is to be apart from 'db'"


def test_a_preference_knows_of_others_only_where_they_were_then() -> None:
    web = Service("web", image="a:1", placement=Placement(prefer=(Preference(apart_from=("db",)),)))
    db = Service("db", image="a:1", placement=Placement(apart_from=("web",)))
    result = place([db, web], [B, A])
    assert list(result.services) == ["web", "db"]
    assert [each.node for each in explain(result, "web").nodes] == ["node-a", "node-b"]
    assert all("preferred by +50" in each.reason for each in explain(result, "web").nodes)


def test_a_singleton_that_is_placed_needs_no_excuse() -> None:
    found = told(web(mode="singleton"))
    assert found.summary == "1 of 1 placed"
    assert sum(each.instances for each in found.nodes) == 1
    (idle,) = (each for each in found.nodes if each.constraint is None and not each.instances)
    assert "number 2 of 2 in the order of this service" in idle.reason
    assert idle.reason.endswith("the 1 that are wanted are on others")


def test_the_summary_names_the_nodes_and_what_excludes_them() -> None:
    found = told(web(replicas=3, placement=Placement(tags=("ssd",), max_per_node=1)))
    assert found.summary == (
        "2 of 3 have no node; "
        "placement.max_per_node excludes node-a: it is number 1 of 1 in the order of this "
        "service; no more, since it runs 1 of it, and may run 1; "
        "placement.tags excludes node-b: it has no tag ssd; "
        "node excludes node-c: it is being drained"
    )


@pytest.mark.parametrize(
    ("placement", "hint"),
    [
        (Placement(nodes=("nod-a",)), "there is no node 'nod-a'; did you mean 'node-a'?"),
        (Placement(regions=("asia",)), "no node has the region 'asia'"),
        (Placement(tags=("rack=7",)), "no node has the tag 'rack=7'; did you mean 'rack=1'?"),
    ],
)
def test_a_word_that_fits_no_node_is_named(placement: Placement, hint: str) -> None:
    found = told(web(placement=placement))
    assert found.hints == (hint,)
    assert found.summary.startswith(f"1 of 1 have no node; {hint}; ")


def test_without_nodes_it_says_so() -> None:
    assert told(web(), nodes=()).summary == "1 of 1 have no node; there are no nodes"


def test_what_was_kept_spread_or_preferred_is_told() -> None:
    nodes = tuple(NodeFacts(f"n-{number}", region="eu" if number else "us") for number in range(4))
    result = place([web()], nodes)
    (best,) = result.instances()["web"]
    other = next(node.name for node in nodes if node.name != best)
    kept = {
        each.node: each for each in explain(place([web()], nodes, {"web": {other: 1}}), "web").nodes
    }
    assert kept[other].reason == "it runs there already"
    assert kept[best].reason.endswith(
        "number 1 of 4 in the order of this service; others stay where they run"
    )

    spread = told(
        web(
            replicas=2,
            placement=Placement(spread=("region",), prefer=(Preference(regions=("eu",)),)),
        ),
        nodes=nodes,
    )
    reasons = [each.reason for each in spread.nodes]
    assert reasons[0] == "it is number 4 of 4 in the order of this service"
    assert sum("preferred by +50" in reason for reason in reasons[1:]) == 3
    assert sum(reason.endswith("instances are spread over region") for reason in reasons) == 2


def test_changes_are_as_few_as_can_be() -> None:
    before = {"a": {"n-1": 2, "n-2": 1}, "b": {"n-1": 1}}
    after = {"a": {"n-1": 1, "n-3": 3}, "c": {"n-2": 1}}
    found = moves(before, after)
    assert found == (
        Move("a", "n-1", "n-3"),
        Move("a", "n-2", "n-3"),
        Move("a", None, "n-3"),
        Move("b", "n-1", None),
        Move("c", None, "n-2"),
    )
    assert [str(each) for each in found[1:]] == [
        "a: moves from n-2 to n-3",
        "a: starts on n-3",
        "b: stops on n-1",
        "c: starts on n-2",
    ]
    assert moves(after, after) == ()
