"""Two nodes of one name, two names at one address, and numbers that are meant to do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.actions import NoDelegate
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.conflicts import Conflict, ConflictLog, seniority
from constellation_core.gossip.member import EventKind, Member, MemberEvent, encode_tags
from constellation_core.gossip.messages import Alive, Dead, Suspect
from constellation_core.gossip.plausible import MOST_ACCUSED
from constellation_core.model.node import NodeState
from constellation_core.testing.network import SimulatedNetwork
from constellation_core.testing.simulated_node import SimulatedNode


class Events(NoDelegate):
    def __init__(self) -> None:
        self.seen: list[MemberEvent] = []

    def on_event(self, event: MemberEvent) -> None:
        self.seen.append(event)

    def kinds(self, name: str) -> list[EventKind]:
        return [event.kind for event in self.seen if event.member.name == name]


def events(node: SimulatedNode) -> Events:
    assert isinstance(node.delegate, Events)
    return node.delegate


def cluster(network: SimulatedNetwork, size: int) -> list[SimulatedNode]:
    nodes = [network.add(f"node-{n}", delegate=Events()) for n in range(size)]
    for node in nodes[1:]:
        node.join(nodes[0])
    network.run_until(network.agrees_on_members, limit=30)
    return nodes


def namesake(network: SimulatedNetwork, original: SimulatedNode) -> SimulatedNode:
    """A second node of the name, at another address."""
    return network.add(
        f"second {original.name}", delegate=Events(), config=GossipConfig(original.name)
    )


def addresses(node: SimulatedNode, name: str) -> str:
    member = node.protocol.table.get(name)
    assert member is not None
    return member.address[0]


def test_the_younger_of_two_namesakes_gives_way_and_the_elder_is_not_disturbed() -> None:
    network = SimulatedNetwork(1)
    nodes = cluster(network, 4)
    elder = nodes[1]
    network.run_for(10)
    younger = namesake(network, elder)
    younger.join(nodes[0])
    network.run_until(lambda: younger.protocol.given_way_to is not None, limit=15)
    assert younger.protocol.given_way_to is not None
    assert younger.protocol.given_way_to.address == elder.address
    assert EventKind.NAME_LOST in events(younger).kinds("node-1")
    network.run_for(50)
    for node in nodes:
        assert addresses(node, "node-1") == elder.address[0]
        assert EventKind.FAILED not in events(node).kinds("node-1")
        assert EventKind.CONFLICT in events(node).kinds("node-1") or node is not nodes[0]
        assert node.state_of("node-1") is NodeState.ALIVE


def test_a_silent_namesake_takes_part_when_the_elder_is_gone() -> None:
    network = SimulatedNetwork(2)
    nodes = cluster(network, 3)
    network.run_for(10)
    younger = namesake(network, nodes[1])
    younger.join(nodes[0])
    network.run_until(lambda: younger.protocol.given_way_to is not None, limit=15)
    nodes[1].kill()
    network.run_until(lambda: younger.protocol.given_way_to is None, limit=90)
    network.run_until(lambda: addresses(nodes[2], "node-1") == younger.address[0], limit=90)
    assert nodes[2].state_of("node-1") is NodeState.ALIVE


def test_namesakes_that_grew_up_in_a_partition_agree_on_the_elder() -> None:
    network = SimulatedNetwork(3)
    nodes = cluster(network, 6)
    left, right = nodes[:3], nodes[3:]
    network.conditions.split(left, right)
    network.run_until(lambda: right[0].state_of("node-1") is NodeState.DEAD, limit=60)
    younger = namesake(network, nodes[1])
    network.conditions.split(left, [younger])
    younger.join(right[0])
    network.run_until(lambda: addresses(right[2], "node-1") == younger.address[0], limit=60)
    network.conditions.heal()
    network.run_until(
        lambda: all(addresses(node, "node-1") == nodes[1].address[0] for node in nodes),
        limit=120,
    )
    assert younger.protocol.given_way_to is not None
    assert nodes[1].protocol.given_way_to is None
    network.run_until(lambda: all(len(node.alive_names()) == 6 for node in nodes), limit=60)


def test_a_node_that_moved_is_not_silenced_by_the_memory_of_its_old_address() -> None:
    network = SimulatedNetwork(4)
    nodes = cluster(network, 4)
    nodes[1].kill()
    again = network.add("node-1", delegate=Events(), address=("10.9.9.9", 7946))
    again.join(nodes[0])
    # As long as the others hold the old one to be alive, they refuse the new one.
    network.run_until(
        lambda: all(addresses(node, "node-1") == "10.9.9.9" for node in network.running()),
        limit=60,
    )
    assert again.protocol.given_way_to is None


def test_a_second_name_at_an_address_is_told_once() -> None:
    network = SimulatedNetwork(5)
    nodes = cluster(network, 3)
    network.run_for(5)
    nodes[2].kill()
    renamed = network.add("renamed", delegate=Events(), address=nodes[2].address)
    renamed.join(nodes[0])
    network.run_until(lambda: nodes[1].state_of("node-2") is NodeState.DEAD, limit=30)
    assert nodes[1].state_of("renamed") is NodeState.ALIVE
    assert events(nodes[1]).kinds("renamed").count(EventKind.ADDRESS_CONFLICT) == 1
    last = nodes[1].protocol.table.conflicts.last
    assert last is not None
    assert (last.what, last.name, last.holder) == ("address", "renamed", "node-2")


def test_nobody_can_be_accused_in_a_number_that_leaves_no_answer() -> None:
    network = SimulatedNetwork(6)
    nodes = cluster(network, 5)
    for node in nodes:
        victim = nodes[4].name
        for number in (0xFFFF_FFFF, MOST_ACCUSED + 1):
            node.protocol.table.suspect(Suspect(number, victim, "liar"))
            node.protocol.table.dead(Dead(number, victim, "liar"))
            member = nodes[4].protocol.table.local
            forged = member.alive()
            node.protocol.table.alive(
                Alive(
                    0xFFFF_FFFF,
                    victim,
                    forged.address,
                    forged.port,
                    forged.meta,
                    forged.versions,
                )
            )
    network.run_for(20)
    assert network.agrees_on_members()
    assert nodes[4].protocol.table.local.incarnation < MOST_ACCUSED
    # In the highest number that is believed there is still an answer.
    nodes[0].protocol.table.dead(Dead(MOST_ACCUSED, nodes[4].name, "liar"))
    network.run_until(network.agrees_on_members, limit=60)
    assert nodes[4].protocol.table.local.incarnation == MOST_ACCUSED + 1
    # And who really dies then is still found out.
    nodes[4].kill()
    network.run_until(network.agrees_on_members, limit=30)


def test_members_are_limited() -> None:
    network = SimulatedNetwork(7, config=lambda name: GossipConfig(name, most_members=3))
    nodes = [network.add(f"node-{n}", delegate=Events()) for n in range(5)]
    for node in nodes[1:]:
        node.join(nodes[0])
    network.run_for(10)
    assert all(len(node.protocol.table.all()) <= 3 for node in nodes)
    assert nodes[0].protocol.stats.incompatible


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.booleans()),
        min_size=2,
        max_size=2,
    )
)
def test_both_claimants_see_the_same_elder(claims: list[tuple[int, int, bool]]) -> None:
    one, two = (
        Member(
            "node",
            (f"10.0.0.{number}", 7946),
            incarnation,
            NodeState.ALIVE,
            0.0,
            encode_tags({"born": f"{epoch:x}"}) if tagged else b"",
        )
        for number, (incarnation, epoch, tagged) in enumerate(claims)
    )
    assert (seniority(one) < seniority(two)) != (seniority(two) < seniority(one))


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 200)), max_size=600))
def test_each_conflict_is_told_once_a_minute_and_memory_is_bounded(
    steps: list[tuple[int, float]],
) -> None:
    log = ConflictLog()
    told: dict[int, float] = {}
    now = 0.0
    for number, wait in steps:
        now += wait / 10
        conflict = Conflict("name", f"n{number}", ("10.0.0.1", 1), "h", ("10.0.0.2", 1), now)
        if log.is_news(conflict):
            told[number] = now
        else:
            assert now - told[number] < 60
        assert log.last is conflict
    assert len(log._told) <= 256


@pytest.mark.parametrize("everywhere", [bytes(4), bytes(16)])
def test_nobody_is_believed_to_be_everywhere(everywhere: bytes) -> None:
    network = SimulatedNetwork(1)
    (node,) = cluster(network, 1)
    table = node.protocol.table
    table.alive(Alive(1, "x", everywhere, 7946, b"", table.local.versions))
    assert table.get("x") is None
    assert "nobody can reach" in node.protocol.stats.last_incompatible


@pytest.mark.parametrize("name", ["x\x1b[2J", "x\n2026 INFO all is well", "\u202ex"])
def test_a_name_that_a_terminal_would_obey_is_not_believed(name: str) -> None:
    network = SimulatedNetwork(1)
    (node,) = cluster(network, 1)
    table = node.protocol.table
    table.alive(Alive(1, name, bytes((10, 0, 0, 9)), 7946, b"", table.local.versions))
    table.suspect(Suspect(MOST_ACCUSED + 1, node.name, name))
    assert table.get(name) is None
    assert node.protocol.stats.incompatible == 2
    assert node.protocol.stats.last_incompatible.isprintable()
