"""Who is probed next, and how surely a dead node is noticed and a living one is not accused."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.actions import NoDelegate, SendDatagram
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.member import EventKind, Member, MemberEvent
from constellation_core.gossip.messages import Alive, Suspect, decode, encode
from constellation_core.gossip.probe_order import ProbeOrder
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.suspects import Suspects
from constellation_core.gossip.timers import Timers
from constellation_core.model.node import NodeState
from constellation_core.testing.network import SimulatedNetwork

NAMES = st.lists(st.text("abc-0123", min_size=1, max_size=6), min_size=2, max_size=9, unique=True)


def member(name: str, state: NodeState = NodeState.ALIVE) -> Member:
    return Member(name, ("10.0.0.1", 7946), 1, state, 0.0)


def order_of(local: str, names: list[str]) -> ProbeOrder:
    order = ProbeOrder(local, Random(1))
    for name in names:
        if name != local:
            order.add(name)
    return order


# --- whom to probe --------------------------------------------------------------------------------


@given(NAMES)
def test_each_node_has_one_other_that_probes_it_every_second_time(names: list[str]) -> None:
    members = {name: member(name) for name in names}
    probed = []
    for name in names:
        order = order_of(name, names)
        turns = [order.next(members.get) for _ in range(6)]
        assert turns[0] == turns[2] == turns[4]
        assert turns[0] is not None
        probed.append(turns[0].name)
    assert sorted(probed) == sorted(names)


@given(NAMES)
def test_everybody_is_probed_in_every_round(names: list[str]) -> None:
    members = {name: member(name) for name in names}
    order, others = order_of(names[0], names), set(names[1:])
    for _ in range(3):
        turns = [order.next(members.get) for _ in range(2 * len(others))]
        assert {each.name for each in turns[1::2] if each is not None} == others


@given(NAMES, st.data())
def test_only_the_living_are_probed_and_what_is_urgent_first(
    names: list[str], data: st.DataObject
) -> None:
    states = data.draw(st.tuples(*(st.sampled_from(NodeState) for _ in names)))
    members = {name: member(name, state) for name, state in zip(names, states, strict=True)}
    order = order_of(names[0], names)
    online = {name for name in names[1:] if members[name].online}
    urgent = data.draw(st.sampled_from(names[1:]))
    order.hurry(urgent)
    turns = [order.next(members.get) for _ in range(2 * len(names))]
    assert {each.name for each in turns if each is not None} <= online
    if urgent in online:
        assert turns[0] is members[urgent]
    assert (None in turns) == (not online)


@given(NAMES)
def test_who_was_removed_is_probed_no_more(names: list[str]) -> None:
    members = {name: member(name) for name in names}
    order = order_of(names[0], names)
    order.remove(names[1])
    del members[names[1]]
    turns = [order.next(members.get) for _ in range(2 * len(names))]
    assert {each.name for each in turns if each is not None} == set(names[2:])


# --- the last word of a suspect -------------------------------------------------------------------


def test_a_suspect_is_asked_before_the_verdict_however_late_it_is_confirmed() -> None:
    config = GossipConfig("a")
    timers, happened = Timers(0.0), list[tuple[str, float]]()
    suspects = Suspects(
        config,
        timers,
        Random(1),
        lambda _: happened.append(("asked", timers.now)),
        lambda _: happened.append(("expired", timers.now)),
    )

    def run(until: float) -> None:
        while (due := timers.next_deadline()) is not None and due <= until:
            timers.now = due
            timers.run_due()
        timers.now = until

    suspects.begin("b", "c", 10)
    assert suspects.confirm("b", "d")
    assert not suspects.confirm("b", "d")
    run(2.0)
    assert happened == [("asked", 0.75), ("expired", 1.25)]
    suspects.end("b")

    happened.clear()
    suspects.begin("b", "c", 10)
    run(5.0)
    assert not happened
    assert suspects.confirm("b", "d")
    run(9.0)
    assert happened == [("asked", 5.0), ("expired", 5.0 + config.probe_timeout)]
    suspects.end("b")
    assert timers.next_deadline() is None


def test_who_is_wrongly_suspected_tells_the_accuser_directly() -> None:
    config = GossipConfig("a")
    local = Member("a", ("10.0.0.1", 1), 5, NodeState.ALIVE, 0.0, b"", config.versions)
    protocol = Protocol(config, local, now=0.0, rng=Random(1))
    protocol.start(0.0)
    source = ("10.0.0.2", 2)
    for accused, answered in ((5, 6), (3, 6)):
        protocol.on_datagram(encode(Suspect(accused, "a", "b")), source, 0.1)
        sent = [each for each in protocol.take_actions() if isinstance(each, SendDatagram)]
        assert [each.address for each in sent] == [source]
        parts = [decode(part) for part in Envelope.of(config, None).open_datagram(sent[0].data)]
        assert next(each.incarnation for each in parts if isinstance(each, Alive)) == answered


# --- all together ---------------------------------------------------------------------------------


class Failures(NoDelegate):
    """A delegate that keeps who was declared dead."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_event(self, event: MemberEvent) -> None:
        if event.kind is EventKind.FAILED:
            self.names.add(event.member.name)


def fleet(network: SimulatedNetwork, size: int) -> dict[str, Failures]:
    failures = {f"node-{number}": Failures() for number in range(size)}
    nodes = [network.add(name, delegate=each) for name, each in failures.items()]
    for node in nodes[1:]:
        node.join(nodes[0])
    network.run_until(network.agrees_on_members, limit=30)
    network.run_for(5)
    return failures


def test_all_of_thirty_notice_every_killed_node_within_four_seconds() -> None:
    network = SimulatedNetwork(1)
    failures = fleet(network, 30)
    for number in range(8):
        victim = f"node-{3 * number}"
        network.nodes[victim].kill()
        del failures[victim]
        network.run_until(
            lambda name=victim: all(name in each.names for each in failures.values()),  # type: ignore[misc]
            limit=4,
        )
    dead = {name for each in failures.values() for name in each.names}
    assert not dead & set(failures)


def test_lost_objections_kill_nobody() -> None:
    """With so much loss there are some ten suspicions a second; every objection is heard."""
    network = SimulatedNetwork(2)
    failures = fleet(network, 30)
    network.conditions.loss = 0.2
    network.run_for(60)
    assert not {name for each in failures.values() for name in each.names}


def test_who_finds_another_dead_does_not_doubt_itself_when_the_others_say_so_too() -> None:
    network = SimulatedNetwork(3)
    fleet(network, 6)
    network.nodes["node-1"].kill()
    survivors = network.running()
    for _ in range(50):
        network.run_for(0.1)
        assert all(node.protocol.awareness.score == 0 for node in survivors)
