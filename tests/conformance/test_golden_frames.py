"""Frames that real nodes sent: read, and written again byte for byte. Needs no such node.

``record_golden.py`` made them. Our encoders give the very bytes of Go's for everything that was
recorded: messages and their fields in Go's order, compound messages, checksums, compression, and
both versions of encryption, with the nonce of the frame. Not recorded, because they would differ:

* Metadata that is empty, but not nil, in a Go program: it is sent as empty bytes (``a0``), nil as
  nil (``c0``). Ours is always nil; both are read alike.
* Numbers above 127 in the header of a push/pull or a user message, by memberlist 0.5.1 and later:
  its codec writes signed numbers with other type bytes. Both are read alike.
* What Serf keeps in maps (times by name): Go writes these in any order.
"""

from __future__ import annotations

import hashlib

import pytest

from constellation_core.gossip import lzw
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.keyring import DecryptError, Keyring
from constellation_core.gossip.messages import Alive, UserMessage, decode
from constellation_core.gossip.packets import unwrap
from constellation_core.gossip.serf import SerfMessage
from constellation_core.gossip.streams import PushPull, decode_stream
from tests.conformance.frames import (
    Frame,
    golden_frames,
    open_frame,
    read_golden,
    serf_again,
)
from tests.conformance.lzw_inputs import lzw_inputs

FRAMES = golden_frames()
LAYERS = {"compound", "crc", "compress", "encrypted 0", "encrypted 1"}
DATAGRAMS = {"Ping", "IndirectPing", "Ack", "Nack", "Suspect", "Alive", "Dead", "UserMessage"}
STREAMS = {"Ping", "Ack", "PushPull", "UserMessage", "ErrorReply"}


def test_every_message_and_every_layer_was_recorded() -> None:
    seen = {via: {k for f in FRAMES if f.via == via for k in f.kinds} for via in ("udp", "tcp")}
    assert seen["udp"] == DATAGRAMS | LAYERS
    assert seen["tcp"] - LAYERS == STREAMS
    assert {"compress", "encrypted 0", "encrypted 1"} <= seen["tcp"]


def test_a_frame_is_read_and_written_again_byte_for_byte() -> None:
    assert len(FRAMES) > 250
    for frame in FRAMES:
        opened = open_frame(frame.via, frame.data, frame.key)
        assert opened.kinds == frame.kinds, frame
        assert opened.again == frame.data, frame


def messages(frame: Frame) -> list[bytes]:
    """The plain messages in a datagram, by the way that a node takes."""
    ring = Keyring([frame.key]) if frame.key is not None else None
    return list(Envelope(ring).open_datagram(frame.data))


def test_a_node_reads_the_datagrams_with_nothing_left_over() -> None:
    for frame in FRAMES:
        if frame.via == "udp":
            names = [type(decode(part)).__name__ for part in messages(frame)]
            assert names == [kind for kind in frame.kinds if kind not in LAYERS], frame


def test_what_a_node_tells_of_itself_is_read_whole() -> None:
    (told,) = {
        (alive.address, alive.port, alive.meta, alive.versions)
        for frame in FRAMES
        if frame.recording == "serf-plain" and frame.via == "udp"
        for part in messages(frame)
        if isinstance(alive := decode(part), Alive) and alive.node == "two"
        if b"changed" not in alive.meta
    }
    assert told == (b"\x7f\x4d\x00\x02", 7946, b"\xff\x81\xa4role\xa3two", b"\1\5\2\2\5\5")


def test_the_views_hold_all_members_and_the_state_of_the_application() -> None:
    views = [
        view
        for frame in FRAMES
        if frame.recording == "go-plain" and "PushPull" in frame.kinds
        if isinstance(view := decode_stream(frame.data), PushPull)
    ]
    assert {row.name for view in views for row in view.rows} == {"one", "two", "three"}
    assert {view.user_state for view in views} <= {
        b"state of one",
        b"state of two",
        b"state of three",
    }


def test_the_messages_of_serf_are_written_again_byte_for_byte() -> None:
    payloads = [
        message.payload
        for frame in FRAMES
        if frame.recording.startswith("serf") and frame.via == "udp"
        for part in messages(frame)
        if isinstance(message := decode(part), UserMessage)
    ]
    assert {SerfMessage(payload[0]) for payload in payloads} >= {
        SerfMessage.LEAVE,
        SerfMessage.JOIN,
        SerfMessage.USER_EVENT,
        SerfMessage.QUERY,
    }
    for payload in payloads:
        assert serf_again(payload) == payload


def test_another_key_opens_no_frame() -> None:
    other = Envelope(Keyring([bytes(32)]))
    encrypted = [frame for frame in FRAMES if frame.key is not None and frame.via == "udp"]
    assert encrypted
    for frame in encrypted:
        with pytest.raises(DecryptError):
            list(other.open_datagram(frame.data))


def test_empty_metadata_is_read_alike_in_both_forms() -> None:
    fields = b"\x04\x82\xa4Node\xa1x\xa4Meta"
    (as_nil,), (as_bytes,) = unwrap(fields + b"\xc0"), unwrap(fields + b"\xa0")
    assert decode(as_nil) == decode(as_bytes)


def test_lzw_gives_what_go_gave() -> None:
    recorded = read_golden("lzw")
    inputs = lzw_inputs()
    assert len(inputs) == len(recorded) > 250
    for data, line in zip(inputs, recorded, strict=True):
        compressed = lzw.compress(data)
        digest = hashlib.sha256(compressed).hexdigest()[:16]
        assert (len(data), len(compressed), digest) == (
            line["bytes"],
            line["compressed"],
            line["sha256"],
        )
