"""Frames and channels of streams, without sockets: whatever happens on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.messages import encode_map
from constellation_core.gossip.rpc.channel import SLACK, Channel, Terms, cost, keepalive, window
from constellation_core.gossip.rpc.failures import FailureKind
from constellation_core.gossip.rpc.frames import (
    LARGEST_BODY,
    FrameError,
    FrameKey,
    FrameKind,
    FrameReader,
    FrameWriter,
)

KEYS = (b"c" * 32, b"s" * 32)
CLEAR = (None, None)
TAKES = 200_000
TERMS = Terms(TAKES, TAKES, silence=30, keepalive=10)


@dataclass
class Pair:
    """A client's and a server's channel, and the bytes between them."""

    keys: tuple[bytes | None, bytes | None] = KEYS
    terms: Terms = TERMS
    now: float = 0.0
    ratchet: int = 1 << 20
    frames_to_server: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        def key(number: int) -> FrameKey:
            return FrameKey(self.keys[number], ratchet=self.ratchet)

        self.client = Channel(
            self.terms, FrameWriter(key(0)), FrameReader(key(1)), self.now, client=True
        )
        self.server = Channel(
            self.terms, FrameWriter(key(1)), FrameReader(key(0)), self.now, client=False
        )

    def carry(self) -> None:
        """Everything that waits arrives."""
        self.server.receive(self.client.take_output(), self.now)
        self.client.receive(self.server.take_output(), self.now)

    def capture(self) -> None:
        """What the client has to say, as one more frame that has not arrived."""
        if frame := self.client.take_output():
            self.frames_to_server.append(frame)


def send(channel: Channel, message: bytes, now: float = 0.0) -> None:
    for start in range(0, max(1, len(message)), LARGEST_BODY):
        part = message[start : start + LARGEST_BODY]
        assert channel.may_send(len(part))
        channel.send(part, last=start + len(part) == len(message), now=now)


def popped(channel: Channel) -> list[bytes]:
    messages = []
    while channel.readable:
        messages.append(channel.pop(0.0))
    return messages


def deliver(pair: Pair, messages: list[bytes], cuts: list[int]) -> list[bytes]:
    """Send all, in pieces of these sizes; what arrived."""
    arrived = []
    for message in messages:
        send(pair.client, message)
        if message is messages[-1]:
            pair.client.finish(0.0)
        data, turn = pair.client.take_output(), 0
        while data:
            cut = cuts[turn % len(cuts)]
            pair.server.receive(data[:cut], 0.0)
            data, turn = data[cut:], turn + 1
        arrived += popped(pair.server)
        pair.client.receive(pair.server.take_output(), 0.0)
    assert pair.server.failure is pair.client.failure is None
    assert pair.server.over
    return arrived


@pytest.mark.parametrize("keys", [KEYS, CLEAR])
@given(
    st.lists(st.binary(max_size=100), min_size=1, max_size=8),
    st.lists(st.integers(1, 150), min_size=1),
)
def test_messages_arrive_in_order_however_they_are_cut(
    keys: tuple[bytes | None, bytes | None], messages: list[bytes], cuts: list[int]
) -> None:
    messages.append(b"the last one")
    assert deliver(Pair(keys), messages, cuts) == messages


@pytest.mark.parametrize("cut", [777, LARGEST_BODY, 10 * LARGEST_BODY])
def test_large_messages_arrive_in_parts(cut: int) -> None:
    messages = [bytes((n,)) * size for n, size in enumerate((TAKES, 70_000, LARGEST_BODY, TAKES))]
    assert deliver(Pair(), messages, [cut]) == messages


class Link:
    """A pair that is driven step by step, with what it must never do."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.sides = (self.pair.client, self.pair.server)
        self.wires = [bytearray(), bytearray()]
        self.sent: list[list[bytes]] = [[], []]
        self.got: list[list[bytes]] = [[], []]

    def step(self, side: int, action: str, size: int) -> None:
        channel, other = self.sides[side], self.sides[1 - side]
        if action == "send" and not channel.ended and channel.may_send(size):
            message = bytes((len(self.sent[side]) % 256,)) * size
            channel.send(message, last=True, now=0.0)
            self.sent[side].append(message)
        elif action == "pop" and channel.readable:
            self.got[1 - side].append(channel.pop(0.0))
        elif action == "end":
            channel.end(0.0)
        elif action == "carry":
            wire = self.wires[side]
            other.receive(bytes(wire[:size]), 0.0)
            del wire[:size]
        for each, wire in zip(self.sides, self.wires, strict=True):
            wire += each.take_output()
            assert each.failure is None
            assert each.kept <= window(TAKES) + LARGEST_BODY

    def settle(self) -> None:
        for _ in range(20):
            for side in (0, 1):
                self.step(side, "carry", 1 << 30)
                while self.sides[side].readable:
                    self.step(side, "pop", 0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["send", "send", "pop", "carry", "carry", "end"]),
            st.integers(0, 100) | st.integers(0, LARGEST_BODY),
        ),
        max_size=120,
    )
)
def test_both_sides_at_once_in_any_order(steps: list[tuple[int, str, int]]) -> None:
    link = Link()
    for side, action, size in steps:
        link.step(side, action, size)
    link.settle()
    assert link.got == link.sent
    # Nobody is left without the credit for a message of the largest size.
    for side in (0, 1):
        if not link.sides[side].ended and not link.sides[side].over:
            send(link.sides[side], bytes(TAKES))


@pytest.mark.parametrize("size", [0, 1, 1000, LARGEST_BODY, TAKES])
def test_a_sender_stops_when_nobody_reads_and_goes_on_when_somebody_does(size: int) -> None:
    pair = Pair()
    parts = [min(LARGEST_BODY, size - start) for start in range(0, max(1, size), LARGEST_BODY)]

    def send_until_stopped() -> int:
        count = 0
        while True:
            for number, part in enumerate(parts):
                if not pair.client.may_send(part):
                    return count
                pair.client.send(bytes(part), last=number == len(parts) - 1, now=0.0)
                pair.carry()
            count += 1

    most = window(TAKES) // sum(map(cost, parts))
    assert 1 <= send_until_stopped() <= most
    assert pair.server.kept <= window(TAKES)
    popped(pair.server)
    pair.carry()
    assert pair.server.failure is pair.client.failure is None
    assert pair.client.may_send(parts[0])


def test_a_key_is_replaced_after_so_many_frames() -> None:
    pair = Pair(ratchet=3)
    for number in range(50):
        send(pair.client, b"%d" % number)
        send(pair.server, b"%d" % number)
        pair.carry()
    expected = [b"%d" % number for number in range(50)]
    assert popped(pair.server) == popped(pair.client) == expected
    old, new = FrameKey(KEYS[0], ratchet=2), FrameKey(KEYS[0], ratchet=2)
    first = [old.encrypt(b"same", b"") for _ in range(4)]
    assert len(set(first)) == 4
    assert [new.decrypt(each, b"") for each in first] == [b"same"] * 4


def _attacked(frames: list[bytes], attack: str, where: int, noise: bytes) -> list[bytes]:
    """What arrives instead of ``frames``."""
    at = where % len(frames)
    frames = list(frames)
    match attack:
        case "drop":
            del frames[at]
        case "repeat":
            frames.insert(at, frames[at])
        case "swap":
            other = (at + 1) % len(frames)
            frames[at], frames[other] = frames[other], frames[at]
        case "flip":
            frame = bytearray(frames[at])
            bit = where % (8 * len(frame))
            frame[bit // 8] ^= 1 << bit % 8
            frames[at] = bytes(frame)
        case "cut":
            frames[at:] = [frames[at][: where % len(frames[at])]]
        case "insert":
            frames.insert(at, noise)
        case "splice":
            frames[at] = FrameWriter(FrameKey(b"o" * 32)).frame(FrameKind.MESSAGE, b"other")
        case "reflect":
            frames[at] = FrameWriter(FrameKey(KEYS[1])).frame(FrameKind.MESSAGE, b"mine")
    return frames


@given(
    st.lists(st.binary(max_size=50), min_size=2, max_size=8),
    st.sampled_from(["drop", "repeat", "swap", "flip", "cut", "insert", "splice", "reflect"]),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=100),
)
def test_frames_that_were_touched_are_refused(
    messages: list[bytes], attack: str, where: int, noise: bytes
) -> None:
    pair = Pair()
    pair.capture()
    for message in messages:
        send(pair.client, message)
        pair.capture()
    pair.client.finish(0.0)
    pair.capture()
    frames = _attacked(pair.frames_to_server, attack, where, noise)
    for frame in frames:
        pair.server.receive(frame, 0.0)
    pair.server.receive_eof()
    arrived = popped(pair.server)
    assert arrived == messages[: len(arrived)]
    if b"".join(frames).startswith(b"".join(pair.frames_to_server)):
        # Only something behind the end, which is not looked at.
        assert arrived == messages
        return
    assert pair.server.failure is not None
    assert pair.server.failure.kind in (FailureKind.DAMAGED, FailureKind.GONE)
    assert not pair.server.peer_done


def test_another_stream_cannot_be_replayed() -> None:
    recorded = Pair((b"1" * 32, b"2" * 32))
    recorded.capture()
    send(recorded.client, b"pay")
    recorded.capture()
    fresh = Pair()
    fresh.server.receive(b"".join(recorded.frames_to_server), 0.0)
    assert not fresh.server.begun
    assert not fresh.server.readable
    assert fresh.server.failure is not None


@given(st.booleans(), st.booleans(), st.booleans(), st.lists(st.binary(max_size=300), max_size=20))
def test_arbitrary_bytes_in_any_phase_do_no_harm(
    encrypted: bool, client: bool, begun: bool, pieces: list[bytes]
) -> None:
    pair = Pair(KEYS if encrypted else CLEAR)
    if begun:
        pair.carry()
    channel = pair.client if client else pair.server
    for piece in pieces:
        channel.receive(piece, 0.0)
        assert channel.kept <= window(TAKES) + LARGEST_BODY
    channel.on_time(5.0)
    channel.receive_eof()
    assert channel.over


kinds = st.sampled_from([FrameKind.PART, FrameKind.MESSAGE, *FrameKind])
bodies = st.binary(max_size=30) | st.integers(0, LARGEST_BODY).map(bytes)


@given(st.booleans(), st.lists(st.tuples(kinds, bodies), max_size=60))
def test_a_peer_that_breaks_the_rules_is_bounded(
    client: bool, frames: list[tuple[FrameKind, bytes]]
) -> None:
    pair = Pair(CLEAR)
    pair.carry()
    channel = pair.client if client else pair.server
    writer = FrameWriter(FrameKey(None))
    for kind, body in frames:
        channel.receive(writer.frame(kind, body), 0.0)
        assert channel.kept <= window(TAKES)
        assert all(len(message) <= TAKES for message, _ in channel._messages)


def _clear(kind: FrameKind, body: bytes = b"") -> bytes:
    return FrameWriter(FrameKey(None)).frame(kind, body)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (_clear(FrameKind.BEGIN), FailureKind.DAMAGED),
        (_clear(FrameKind.PART), FailureKind.DAMAGED),
        (_clear(FrameKind.PART, b"x") + _clear(FrameKind.END), FailureKind.DAMAGED),
        (_clear(FrameKind.END) + _clear(FrameKind.MESSAGE, b"x"), FailureKind.DAMAGED),
        (_clear(FrameKind.CREDIT, b"\0\0\0\1"), FailureKind.DAMAGED),
        (_clear(FrameKind.CREDIT, b""), FailureKind.DAMAGED),
        (_clear(FrameKind.MESSAGE) * (window(TAKES) // 64 + 1), FailureKind.DAMAGED),
        (_clear(FrameKind.PART, bytes(LARGEST_BODY)) * 4, FailureKind.LIMIT),
        (b"\0\0\0\0", FailureKind.DAMAGED),
        (b"\0\1\0\2", FailureKind.DAMAGED),
        (b"\xff\xff\xff\xff", FailureKind.DAMAGED),
        (b"\0\0\0\1\x63", FailureKind.DAMAGED),
        (_clear(FrameKind.FAIL, b"?"), FailureKind.FAILED),
        (_clear(FrameKind.FAIL, encode_map({"Kind": 200})), FailureKind.FAILED),
        (_clear(FrameKind.FAIL, encode_map({"Kind": 102})), FailureKind.FAILED),
        (_clear(FrameKind.FAIL, encode_map({"Kind": 1})), FailureKind.CANCELLED),
    ],
)
def test_what_is_against_the_rules_ends_the_stream(data: bytes, kind: FailureKind) -> None:
    pair = Pair(CLEAR)
    pair.carry()
    pair.server.receive(data, 0.0)
    assert pair.server.failure is not None
    assert pair.server.failure.kind is kind


def test_nothing_but_a_beginning_comes_first() -> None:
    pair = Pair(CLEAR)
    pair.server.receive(_clear(FrameKind.MESSAGE, b"early"), 0.0)
    assert pair.server.failure is not None
    assert not pair.server.readable


def test_all_messages_together_are_limited() -> None:
    pair = Pair(terms=Terms(1000, 1000, 30, 10, total=2500))
    for _ in range(3):
        send(pair.client, bytes(1000))
        pair.carry()
    assert len(popped(pair.server)) == 2
    assert pair.server.failure is not None
    assert pair.client.failure is not None
    assert (pair.server.failure.by_peer, pair.client.failure.by_peer) == (False, True)
    assert pair.client.failure.kind is pair.server.failure.kind is FailureKind.LIMIT
    assert "2500" in pair.client.failure.reason


def test_each_direction_ends_by_itself() -> None:
    pair = Pair()
    send(pair.client, b"question")
    pair.client.end(0.0)
    pair.carry()
    assert (pair.server.pop(0.0), pair.server.peer_ended) == (b"question", True)
    assert not pair.server.over
    send(pair.server, b"answer")
    pair.server.finish(0.0)
    pair.carry()
    assert (pair.client.pop(0.0), pair.client.peer_done) == (b"answer", True)
    pair.client.receive_eof()
    pair.server.receive_eof()
    assert pair.client.over
    assert pair.server.over
    assert pair.client.failure is pair.server.failure is None


def test_a_lost_connection_is_no_end() -> None:
    pair = Pair()
    send(pair.client, b"half")
    pair.client.end(0.0)
    pair.carry()
    pair.server.receive_eof()
    pair.client.receive_eof()
    assert popped(pair.server) == [b"half"]
    for channel in (pair.client, pair.server):
        assert channel.failure is not None
        assert channel.failure.kind is FailureKind.GONE


def test_a_failure_is_told_with_its_words_and_cut_to_size() -> None:
    pair = Pair()
    pair.carry()
    pair.server.fail(FailureKind.REJECTED, "ä" * 5000, "no-such-thing", "look", now=0.0)
    pair.carry()
    failure = pair.client.failure
    assert failure is not None
    assert (failure.kind, failure.code, failure.hint) == (
        FailureKind.REJECTED,
        "no-such-thing",
        "look",
    )
    assert failure.reason == "ä" * 512
    assert failure.by_peer
    # It is over: nothing more is sent, and nothing more is believed.
    pair.client.end(0.0)
    pair.client.fail(FailureKind.CANCELLED, "", now=0.0)
    assert pair.client.take_output() == b""
    assert pair.client.next_deadline() is None


def test_who_has_nothing_to_say_says_so_and_who_is_silent_is_gone() -> None:
    pair = Pair(terms=Terms(10, 10, silence=30, keepalive=keepalive(30)))
    pair.carry()
    for _ in range(20):
        deadline = pair.client.next_deadline()
        assert deadline == pair.now + 10
        pair.now = deadline
        pair.client.on_time(pair.now)
        pair.server.on_time(pair.now)
        pair.carry()
    assert pair.client.failure is pair.server.failure is None
    for later in (10, 20, 29.9):
        pair.client.on_time(pair.now + later)
        assert pair.client.failure is None
    pair.client.on_time(pair.now + 30)
    assert pair.client.failure is not None
    assert pair.client.failure.kind is FailureKind.SILENT
    assert "paused or cut off" in pair.client.failure.reason


def test_who_stood_still_does_not_blame_the_peer() -> None:
    pair = Pair(terms=Terms(10, 10, silence=30, keepalive=10))
    pair.carry()
    pair.client.on_time(100.0)
    assert pair.client.failure is None
    for later in (110.0, 120.0, 130.0):
        assert pair.client.failure is None
        pair.client.on_time(later)
    assert pair.client.failure is not None


def test_a_frame_is_never_larger_than_allowed() -> None:
    with pytest.raises(ValueError, match="65536"):
        FrameWriter(FrameKey(None)).frame(FrameKind.MESSAGE, bytes(LARGEST_BODY + 1))
    reader = FrameReader(FrameKey(None))
    with pytest.raises(FrameError):
        list(reader.feed((LARGEST_BODY + 2).to_bytes(4, "big")))
    assert reader.buffered == 0


def test_a_window_holds_the_largest_message_beside_what_is_owed() -> None:
    for size in (0, 1, LARGEST_BODY, LARGEST_BODY + 1, 10 * LARGEST_BODY):
        whole = -(-size // LARGEST_BODY) * 64 + size
        assert window(size) - SLACK // 4 > whole
