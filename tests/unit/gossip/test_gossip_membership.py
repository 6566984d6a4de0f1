"""Membership among simulated nodes: everybody agrees in the end, and nobody alive is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.gossip.actions import NoDelegate
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.keyring import Keyring
from constellation_core.gossip.member import EventKind, MemberEvent
from constellation_core.gossip.messages import Dead, Nack, Ping, encode
from constellation_core.gossip.paths import Path
from constellation_core.gossip.timers import Timers
from constellation_core.model.node import NodeState
from constellation_core.testing.network import SimulatedNetwork
from constellation_core.testing.simulated_node import SimulatedNode


class Recorder(NoDelegate):
    """A delegate that keeps the events and the messages."""

    def __init__(self) -> None:
        self.events: list[MemberEvent] = []
        self.messages: list[bytes] = []

    def on_event(self, event: MemberEvent) -> None:
        self.events.append(event)

    def on_message(self, payload: bytes) -> None:
        self.messages.append(payload)

    def kinds(self, name: str) -> list[EventKind]:
        return [event.kind for event in self.events if event.member.name == name]


def cluster(network: SimulatedNetwork, size: int) -> list[SimulatedNode]:
    """Nodes that have all found each other."""
    nodes = [network.add(f"node-{n}", delegate=Recorder()) for n in range(size)]
    for node in nodes[1:]:
        node.join(nodes[0])
    network.run_until(network.agrees_on_members, limit=30)
    return nodes


def recorder(node: SimulatedNode) -> Recorder:
    assert isinstance(node.delegate, Recorder)
    return node.delegate


def never_failed(nodes: list[SimulatedNode]) -> None:
    for node in nodes:
        failed = [e for e in recorder(node).events if e.kind is EventKind.FAILED]
        assert not failed, f"{node.name} declared {failed[0].member.name} dead"


@pytest.mark.parametrize("keyring", [None, Keyring([b"k" * 32])])
@pytest.mark.parametrize("size", [2, 3, 7, 30])
def test_nodes_find_each_other(size: int, keyring: Keyring | None) -> None:
    network = SimulatedNetwork(1, keyring=keyring)
    nodes = [network.add(f"node-{n}") for n in range(size)]
    for number, node in enumerate(nodes[1:]):
        node.join(nodes[number])
    assert network.run_until(network.agrees_on_members, limit=30) < 5


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[tuple[int, int, int]]:
        network = SimulatedNetwork(seed)
        network.conditions.loss = 0.1
        nodes = [network.add(f"node-{n}") for n in range(10)]
        for node in nodes[1:]:
            node.join(nodes[0])
        network.run_for(20)
        stats = [node.protocol.stats for node in nodes]
        return [(s.datagrams_in, s.bytes_in, s.bytes_out) for s in stats]

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_a_killed_node_is_noticed_by_all_within_five_seconds() -> None:
    network = SimulatedNetwork(2)
    nodes = cluster(network, 30)
    nodes[7].kill()

    def noticed() -> bool:
        return all(node.state_of("node-7") is NodeState.DEAD for node in network.running())

    assert network.run_until(noticed, limit=10) <= 5.0
    assert all(EventKind.FAILED in recorder(node).kinds("node-7") for node in network.running())


def test_a_goodbye_is_no_failure() -> None:
    network = SimulatedNetwork(3)
    nodes = cluster(network, 5)
    nodes[2].leave()
    network.run_until(lambda: nodes[2].protocol.goodbye_sent, limit=3)
    nodes[2].kill()
    others = network.running()
    network.run_until(
        lambda: all(node.state_of("node-2") is NodeState.LEFT for node in others), limit=3
    )
    network.run_for(30)
    never_failed(others)
    assert recorder(others[0]).kinds("node-2")[-1] is EventKind.LEFT


def test_a_node_that_left_comes_back_under_its_name() -> None:
    network = SimulatedNetwork(4)
    nodes = cluster(network, 3)
    nodes[1].leave()
    network.run_until(lambda: nodes[1].protocol.goodbye_sent, limit=3)
    nodes[1].kill()
    network.run_for(5)
    again = network.add("node-1", delegate=Recorder())
    again.join(nodes[0])
    network.run_until(network.agrees_on_members, limit=5)
    assert recorder(nodes[2]).kinds("node-1")[-1] is EventKind.JOINED


def test_a_killed_node_that_restarts_is_alive_again_at_once() -> None:
    network = SimulatedNetwork(5)
    nodes = cluster(network, 5)
    nodes[1].kill()
    network.run_for(1.5)
    network.add("node-1", delegate=Recorder()).join(nodes[0])
    assert network.run_until(network.agrees_on_members, limit=5) < 3


def test_all_restart_at_once_and_nobody_stays_dead() -> None:
    network = SimulatedNetwork(6)
    nodes = cluster(network, 10)
    for node in nodes:
        node.kill()
    network.run_for(2)
    again = [network.add(node.name, delegate=Recorder()) for node in nodes]
    for node in again:
        node.protocol.remember({other.address for other in again} - {node.address})
    network.run_until(network.agrees_on_members, limit=60)


@pytest.mark.parametrize("loss", [0.02, 0.2])
def test_lost_packets_kill_nobody(loss: float) -> None:
    network = SimulatedNetwork(7)
    nodes = cluster(network, 15)
    network.conditions.loss = loss
    network.run_for(60)
    never_failed(nodes)
    network.conditions.loss = 0
    network.run_until(network.agrees_on_members, limit=30)


def test_duplicated_and_reordered_packets_change_nothing() -> None:
    network = SimulatedNetwork(8)
    network.conditions.duplication = 0.5
    network.conditions.latency = (0.0001, 0.1)
    nodes = cluster(network, 15)
    network.run_for(60)
    never_failed(nodes)


def test_a_paused_node_doubts_itself_and_not_the_others() -> None:
    network = SimulatedNetwork(9)
    nodes = cluster(network, 10)
    nodes[3].pause()
    network.run_for(30)
    assert nodes[0].state_of("node-3") is NodeState.DEAD
    nodes[3].resume()
    network.run_until(network.agrees_on_members, limit=20)
    never_failed([nodes[3]])
    assert nodes[3].protocol.stats.stalls == 1


def test_a_partition_heals_however_long_it_was() -> None:
    network = SimulatedNetwork(10)
    nodes = cluster(network, 6)
    network.conditions.split(nodes[:2], nodes[2:])
    network.run_until(
        lambda: nodes[0].alive_names() == {"node-0", "node-1"} and len(nodes[5].alive_names()) == 4,
        limit=20,
    )
    network.run_for(600)
    network.conditions.heal()
    assert network.run_until(network.agrees_on_members, limit=60) < 40


def test_a_partition_heals_that_outlasts_the_memory_of_the_dead() -> None:
    network = SimulatedNetwork(
        10, config=lambda name: GossipConfig(name, forget_dead=30, gossip_to_dead=5)
    )
    nodes = cluster(network, 5)
    network.conditions.split(nodes[:2], nodes[2:])
    network.run_for(120)
    assert nodes[0].state_of("node-4") is None
    assert nodes[4].state_of("node-0") is None
    network.conditions.heal()
    assert network.run_until(network.agrees_on_members, limit=60) < 40


def test_a_one_way_path_is_found_and_survives() -> None:
    network = SimulatedNetwork(11)
    nodes = cluster(network, 8)
    network.conditions.cut.add(("node-1", "node-2"))
    network.run_for(60)
    never_failed(nodes)
    network.conditions.heal()
    network.run_until(network.agrees_on_members, limit=30)


def test_a_node_that_is_reached_by_tcp_only_is_alive_and_named() -> None:
    network = SimulatedNetwork(12)
    nodes = cluster(network, 2)
    network.conditions.udp_blocked.add("node-1")
    network.run_for(20)
    assert nodes[0].state_of("node-1") is NodeState.ALIVE
    assert nodes[0].protocol.paths.to("node-1", network.now) is Path.UDP_BLOCKED
    network.conditions.heal()
    network.run_for(5)
    assert nodes[0].protocol.paths.to("node-1", network.now) is Path.DIRECT


def test_a_path_that_drops_our_datagrams_only_is_named_one_way() -> None:
    network = SimulatedNetwork(12)
    nodes = cluster(network, 4)
    network.conditions.udp_cut.add(("node-0", "node-1"))
    network.run_for(20)
    assert all(node.alive_names() == {n.name for n in nodes} for node in nodes)
    assert nodes[0].protocol.paths.bad(network.now) == {"node-1": Path.ONE_WAY}
    # The other side hears our pings and gets no answer to its own over UDP.
    assert nodes[1].protocol.paths.bad(network.now) == {"node-0": Path.UDP_BLOCKED}
    assert nodes[2].protocol.paths.bad(network.now) == {}


def test_a_member_that_only_others_reach_is_named() -> None:
    network = SimulatedNetwork(12)
    nodes = cluster(network, 4)
    network.conditions.cut |= {("node-0", "node-1"), ("node-1", "node-0")}
    network.run_for(90)
    never_failed(nodes)
    assert nodes[0].protocol.paths.bad(network.now) == {"node-1": Path.RELAYED}


def test_a_lie_about_a_living_node_is_refuted() -> None:
    network = SimulatedNetwork(13)
    nodes = cluster(network, 6)
    liar, victim = nodes[0], nodes[4]
    before = victim.protocol.table.local.incarnation
    liar.protocol.table.dead(Dead(before, victim.name, liar.name))
    network.run_for(10)
    network.run_until(network.agrees_on_members, limit=10)
    assert victim.protocol.table.local.incarnation > before


def test_two_nodes_of_one_name_are_a_conflict_and_the_first_stays() -> None:
    network = SimulatedNetwork(14)
    nodes = cluster(network, 3)
    impostor = network.add("impostor", delegate=Recorder(), config=GossipConfig("node-1"))
    impostor.join(nodes[0])
    network.run_for(10)
    assert EventKind.CONFLICT in recorder(nodes[0]).kinds("node-1")
    known = nodes[0].protocol.table.get("node-1")
    assert known is not None
    assert known.address == nodes[1].address


def test_another_key_stays_out() -> None:
    network = SimulatedNetwork(15, keyring=Keyring([b"a" * 32]))
    nodes = cluster(network, 2)
    other = Keyring([b"b" * 32])
    stranger = network.add("stranger", keyring=other, delegate=Recorder())
    stranger.join(nodes[0])
    network.send_datagram(stranger, nodes[0].address, other.encrypt(encode(Nack(1))))
    network.run_for(5)
    assert nodes[0].state_of("stranger") is None
    assert nodes[0].protocol.stats.undecryptable


def test_one_node_with_foreign_versions_keeps_nobody_else_out() -> None:
    network = SimulatedNetwork(16)
    nodes = cluster(network, 2)
    foreign = network.add(
        "foreign", config=GossipConfig("foreign", delegate_versions=(9, 9, 9)), delegate=Recorder()
    )
    foreign.join(nodes[0])
    late = network.add("late", delegate=Recorder())
    late.join(nodes[0])
    network.run_for(10)
    assert nodes[1].alive_names() == {"node-0", "node-1", "late"}
    assert nodes[0].protocol.stats.incompatible


@settings(max_examples=15)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(
            st.sampled_from(["kill", "start", "pause", "resume", "cut", "heal", "leave", "loss"]),
            st.integers(0, 5),
            st.integers(0, 5),
            st.floats(0.1, 15),
        ),
        max_size=12,
    ),
)
def test_whatever_happened_all_agree_afterwards(
    seed: int, steps: list[tuple[str, int, int, float]]
) -> None:
    network = SimulatedNetwork(seed)
    nodes = cluster(network, 6)
    paused: set[str] = set()

    def start(name: str) -> None:
        node = network.add(name, delegate=Recorder())
        others = [other for other in network.running() if other is not node]
        node.protocol.remember({other.address for other in nodes} - {node.address})
        if others:
            node.join(others[0])
        paused.discard(name)

    for what, one, two, seconds in steps:
        node = network.nodes[f"node-{one}"]
        match what:
            case "kill":
                node.kill()
            case "leave" if node.running:
                node.leave()
                network.run_for(2)
                node.kill()
            case "start" if not node.running:
                start(node.name)
            case "pause":
                node.pause()
                paused.add(node.name)
            case "resume" if node.name in paused:
                node.resume()
                paused.discard(node.name)
            case "cut":
                network.conditions.cut.add((node.name, f"node-{two}"))
            case "heal":
                network.conditions.heal()
            case "loss":
                network.conditions.loss = two / 10
        network.run_for(seconds)
    network.conditions.heal()
    network.conditions.loss = 0
    for name in sorted(paused):
        network.nodes[name].resume()
    for name in sorted(network.nodes):
        if not network.nodes[name].running:
            start(name)
    network.run_until(network.agrees_on_members, limit=120)


def test_who_says_goodbye_does_not_take_it_back_with_new_metadata() -> None:
    network = SimulatedNetwork(1)
    nodes = cluster(network, 3)
    gone = nodes[2]
    # Past the time in which newcomers exchange views every second.
    network.run_for(10)
    gone.leave()
    gone.protocol.set_meta(b"news", network.now)
    gone.flush()
    network.run_until(lambda: gone.protocol.goodbye_sent, limit=5)
    gone.kill()
    network.run_for(20)
    assert {node.state_of(gone.name) for node in nodes[:2]} == {NodeState.LEFT}


def test_nothing_is_kept_of_who_is_forgotten() -> None:
    config = GossipConfig("node-0", forget_dead=5.0)
    network = SimulatedNetwork(1)
    keeper = network.add("node-0", config=config, delegate=Recorder())
    other = network.add("node-1", delegate=Recorder())
    other.join(keeper)
    network.run_until(network.agrees_on_members, limit=30)
    other.kill()
    network.run_until(lambda: keeper.state_of("node-1") is NodeState.DEAD, limit=60)
    # A word of its from another address, that was long under way.
    ping = encode(Ping(1, "node-0", bytes(4), 7946, "node-1"))
    keeper.receive(ping, ("10.8.8.8", 7946))
    assert "node-1" in keeper.protocol.seen_from
    network.run_until(lambda: keeper.state_of("node-1") is None, limit=60)
    assert not keeper.protocol.seen_from


def test_what_a_timer_raises_does_not_take_the_others_away() -> None:
    timers = Timers(0.0)
    made = []
    timers.call_at(1, lambda: made.append("first"))
    timers.call_at(2, lambda: made.append(1 // 0))
    timers.call_at(3, lambda: made.append("last"))
    timers.call_at(4, lambda: made.append("cancelled")).cancel()
    timers.now = 5
    with pytest.raises(ZeroDivisionError):
        timers.run_due()
    assert timers.next_deadline() == 3
    timers.run_due()
    assert made == ["first", "last"]
