"""The delegate for Serf clusters: intents, events, queries about keys, and garbage."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip import GossipConfig, Keyring, Member, Protocol
from constellation_core.gossip.actions import SendDatagram
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.member import pack_ip
from constellation_core.gossip.messages import (
    Alive,
    Dead,
    Fields,
    UserMessage,
    decode,
    decode_map,
    encode,
)
from constellation_core.gossip.serf import (
    SERF_VERSIONS,
    SerfDelegate,
    SerfMessage,
    UserEvent,
    pack,
)
from constellation_core.model.node import NodeState

OLD, NEW = b"o" * 32, b"n" * 32
ASKER = ("127.0.0.1", 1000)


class Node:
    """A delegate on a protocol without sockets; datagrams are in clear."""

    def __init__(self, keyring: Keyring | None = None) -> None:
        self.heard: list[UserEvent] = []
        self.changed: list[tuple[bytes, ...]] = []
        self.serf = SerfDelegate(
            "me",
            keyring=keyring,
            on_user_event=self.heard.append,
            on_keys_changed=lambda ring: self.changed.append(ring.keys),
        )
        config = GossipConfig("me", delegate_versions=SERF_VERSIONS)
        local = Member("me", ("127.0.0.1", 1), 1, NodeState.ALIVE, 0.0, versions=config.versions)
        self.protocol = Protocol(config, local, now=0.0, rng=Random(1), delegate=self.serf)
        self.protocol.start(0.0)
        for name, port in (("asker", 1000), ("other", 1001)):
            self.protocol.table.alive(
                Alive(1, name, pack_ip("127.0.0.1"), port, b"", config.versions)
            )

    def waiting(self) -> list[bytes]:
        """What waits to be broadcast, taken out one time."""
        return list(self.serf.broadcasts(10_000, 3, 1))

    def answers(self) -> list[Fields]:
        """The answers to queries that were sent to the asker."""
        found = []
        for action in self.protocol.take_actions():
            assert isinstance(action, SendDatagram)
            assert action.address == ASKER
            for part in Envelope().open_datagram(action.data):
                message = decode(part)
                kind = bytes((SerfMessage.QUERY_RESPONSE,))
                if isinstance(message, UserMessage) and message.payload[:1] == kind:
                    found.append(decode_map("response", message.payload[1:]))
        return found

    @property
    def malformed(self) -> int:
        return self.protocol.stats.malformed


def query(name: str, key: bytes | None = None, *, flags: int = 0, time: int = 7) -> bytes:
    payload = pack(SerfMessage.KEY_REQUEST, {"Key": key}) if key is not None else b""
    fields = {
        "LTime": time,
        "ID": 99,
        "Addr": pack_ip(ASKER[0]),
        "Port": ASKER[1],
        "SourceNode": "asker",
        "Filters": None,
        "Flags": flags,
        "RelayFactor": 0,
        "Timeout": 5_000_000_000,
        "Name": name,
        "Payload": payload or None,
    }
    return pack(SerfMessage.QUERY, fields)


def key_answer(node: Node) -> tuple[bool, str]:
    (response,) = node.answers()
    assert response.text(b"From") == "me"
    assert (response.number(b"ID"), response.number(b"LTime")) == (99, 7)
    payload = response.raw(b"Payload")
    assert payload[0] == SerfMessage.KEY_RESPONSE
    fields = decode_map("key response", payload[1:])
    return fields.flag(b"Result"), fields.text(b"Message")


def test_the_three_queries_of_a_rotation_change_the_ring() -> None:
    ring = Keyring([OLD])
    node = Node(ring)
    steps = (("install", NEW, (OLD, NEW)), ("use", NEW, (NEW, OLD)), ("remove", OLD, (NEW,)))
    for what, key, keys in steps:
        node.serf.on_message(query(f"_serf_{what}-key", key))
        assert key_answer(node) == (True, "")
        assert ring.keys == keys
    assert node.changed == [keys for _, _, keys in steps]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (query("_serf_use-key", NEW), "not on the ring"),
        (query("_serf_remove-key", OLD), "in use"),
        (query("_serf_install-key", b"short"), "16, 24 or 32 bytes"),
        (query("_serf_install-key"), "not a request"),
    ],
)
def test_what_the_ring_refuses_is_answered_with_the_reason(message: bytes, why: str) -> None:
    ring = Keyring([OLD])
    node = Node(ring)
    node.serf.on_message(message)
    done, told = key_answer(node)
    assert not done
    assert why in told
    assert ring.keys == (OLD,)
    assert node.changed == []


def test_a_cluster_without_keys_says_so() -> None:
    node = Node()
    node.serf.on_message(query("_serf_list-keys"))
    assert key_answer(node) == (False, "this cluster is not encrypted")


def test_who_asks_for_an_acknowledgement_gets_one_before_the_answer() -> None:
    node = Node(Keyring([OLD]))
    node.serf.on_message(query("_serf_list-keys", flags=1))
    acknowledged, answered = node.answers()
    assert (acknowledged.number(b"Flags"), acknowledged.raw(b"Payload")) == (1, b"")
    assert (answered.number(b"Flags"), answered.raw(b"Payload")[:1]) == (0, b"\x08")


def test_a_query_is_answered_once_and_passed_on() -> None:
    node = Node(Keyring([OLD]))
    message = query("_serf_list-keys")
    node.serf.on_message(message)
    node.serf.on_message(message)
    assert len(node.answers()) == 1
    assert node.waiting() == [message]


def test_a_query_that_is_not_to_be_broadcast_is_not() -> None:
    node = Node(Keyring([OLD]))
    node.serf.on_message(query("_serf_list-keys", flags=2))
    assert len(node.answers()) == 1
    assert node.waiting() == []


def test_other_queries_are_passed_on_without_an_answer() -> None:
    node = Node(Keyring([OLD]))
    for name in ("uptime", "_serf_ping", "_serf_something-new"):
        node.serf.on_message(query(name))
    assert node.answers() == []
    assert len(node.waiting()) == 3
    assert node.serf.queries.time == 8


def test_an_event_is_heard_once_and_passed_on() -> None:
    sender, node = Node(), Node()
    event = UserEvent("deploy", b"\x00\xff", coalesce=True)
    sender.serf.send_event(event)
    (message,) = sender.waiting()
    for _ in range(2):
        node.serf.on_message(message)
    assert node.serf.on_request(message) is None
    assert node.heard == [event]
    assert node.waiting() == [message]
    # Its own word that comes back is no news.
    sender.serf.on_message(message)
    assert sender.heard == []


def test_events_are_numbered_beyond_all_that_were_heard() -> None:
    node = Node()
    fields = {"LTime": 41, "Name": "x", "Payload": None, "CC": False}
    node.serf.on_message(pack(SerfMessage.USER_EVENT, fields))
    mine = decode_map("event", node.serf.encode_event(UserEvent("y", b""))[1:])
    assert mine.number(b"LTime") == 42
    assert node.serf.events.time == 43


def test_a_broadcast_is_sent_as_often_as_news_of_members() -> None:
    node = Node()
    node.serf.send_event(UserEvent("x", b""))
    for _ in range(4):  # 4 times the logarithm of three nodes and one
        assert node.serf.has_broadcasts()
        assert len(node.waiting()) == 1
    assert not node.serf.has_broadcasts()


def test_the_leave_of_this_node_is_numbered_beyond_what_was_seen() -> None:
    node = Node()
    node.serf.on_message(pack(SerfMessage.JOIN, {"LTime": 30, "Node": "other"}))
    node.waiting()
    node.serf.announce_leave()
    (message,) = (m for m in node.waiting() if m[0] == SerfMessage.LEAVE)
    fields = decode_map("leave", message[1:])
    assert (fields.number(b"LTime"), fields.text(b"Node")) == (31, "me")
    assert not fields.flag(b"Prune")


def leave(name: str, time: int) -> bytes:
    return pack(SerfMessage.LEAVE, {"LTime": time, "Node": name, "Prune": False})


def test_who_left_is_told_in_push_pulls_until_it_comes_back() -> None:
    node = Node()
    node.serf.on_message(leave("other", 12))
    node.serf.on_message(leave("nobody-knows", 13))
    node.protocol.table.dead(Dead(1, "other", "other"))
    told = node.serf.local_state(join=False)
    assert b"\xabLeftMembers\x91\xa5other" in told
    assert b"\xacStatusLTimes\x81\xa5other\x0c" in told
    node.protocol.table.alive(
        Alive(2, "other", pack_ip("127.0.0.1"), 1001, b"", bytes((1, 5, 2, 2, 5, 5)))
    )
    assert b"\xabLeftMembers\x90" in node.serf.local_state(join=False)


def test_a_leave_that_others_say_of_this_node_is_contradicted() -> None:
    node = Node()
    node.serf.on_message(leave("me", 20))
    (message,) = node.waiting()
    assert message[0] == SerfMessage.JOIN
    assert decode_map("join", message[1:]).number(b"LTime") == 21


def test_the_clocks_of_a_push_pull_are_taken_over() -> None:
    one, other = Node(), Node()
    for _ in range(5):
        one.serf.events.next()
    one.serf.members.witness(8)
    other.serf.merge_state(one.serf.local_state(join=True), join=True)
    assert (other.serf.members.time, other.serf.events.time, other.serf.queries.time) == (9, 6, 1)
    assert other.malformed == 0


@pytest.mark.parametrize(
    "message",
    [
        pack(SerfMessage.USER_EVENT, {"LTime": 2**63, "Name": "late", "Payload": None, "CC": True}),
        b"\x03",
        b"\x03\xc1",
        b"\x00\x81\xa4Node\x07",
        query("x").replace(b"\xa4Addr\xa4\x7f", b"\xa4Addr\xa3"),
    ],
)
def test_what_is_no_message_of_serf_is_counted(message: bytes) -> None:
    node = Node(Keyring([OLD]))
    node.serf.on_message(message)
    assert node.malformed == 1
    assert node.heard == node.waiting() == []


@given(st.integers(0, 10), st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(kind: int, data: bytes) -> None:
    node = Node(Keyring([OLD]))
    message = bytes((kind,)) + data
    node.protocol.on_datagram(encode(UserMessage(message)), ASKER, 1.0)
    node.serf.on_request(message)
    node.serf.merge_state(message, join=False)


def test_a_flood_is_bounded() -> None:
    node = Node()
    for number in range(6000):
        fields = {"LTime": number, "Name": "x", "Payload": None, "CC": False}
        node.serf.on_message(pack(SerfMessage.USER_EVENT, fields))
    assert len(node.serf._queue) == 1024
    assert len(node.serf._seen) == 4096
