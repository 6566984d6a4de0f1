"""Who may speak to a voter: handshake, frames and messages, without sockets."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.engine.commands import MAX_COMMAND
from constellation_core.consensus.engine.frames import MAX_FRAME, FrameError, Opener, Sealer
from constellation_core.consensus.engine.handshake import (
    ANSWER_LENGTH,
    CONFIRM_LENGTH,
    HELLO_LENGTH,
    Dialler,
    Established,
    HandshakeError,
    Listener,
)
from constellation_core.consensus.engine.keys import group_keys
from constellation_core.consensus.engine.messages import (
    MessageError,
    decode_message,
    encode_message,
    fitting,
)

CLUSTER, A, B, C = (UUID(int=number) for number in (1, 10, 11, 12))
OLD, NEW = bytes(32), bytes(range(32))


def dialler(*, key: bytes = NEW, cluster: UUID = CLUSTER, wanted: UUID = B) -> Dialler:
    return Dialler(group_keys([key], cluster)[0], cluster, A, wanted)


def listener(*keys: bytes, me: UUID = B) -> Listener:
    return Listener(group_keys(keys or (NEW,), CLUSTER), CLUSTER, me)


def shake(one: Dialler, other: Listener) -> tuple[Established, Established]:
    answer = other.greeted(one.hello)
    assert (len(one.hello), len(answer)) == (HELLO_LENGTH, ANSWER_LENGTH)
    confirm, here = one.answered(answer)
    assert len(confirm) == CONFIRM_LENGTH
    return here, other.confirmed(confirm)


def test_two_voters_agree_on_two_keys() -> None:
    here, there = shake(dialler(), listener())
    assert (here.peer, there.peer) == (B, A)
    assert here.send_key == there.receive_key
    assert there.send_key == here.receive_key
    assert here.send_key != here.receive_key
    assert here.send_key.hex() not in repr(here)


def test_the_previous_key_is_accepted_and_an_older_one_is_not() -> None:
    shake(dialler(key=OLD), listener(NEW, OLD))
    with pytest.raises(HandshakeError, match="has not the key"):
        shake(dialler(key=OLD), listener(NEW))


def test_another_group_with_the_same_cluster_key_is_refused() -> None:
    with pytest.raises(HandshakeError):
        shake(dialler(cluster=C), listener())


def test_a_voter_with_another_directory_is_noticed_by_both() -> None:
    one, other = dialler(), listener(me=C)
    answer = other.greeted(one.hello)
    with pytest.raises(HandshakeError, match="data directory is another"):
        one.answered(answer)
    # And the one that was reached would not take it for what it is not, either.
    eager = dialler()
    fresh = listener(me=C)
    reply = fresh.greeted(eager.hello)
    eager._wanted = C
    with pytest.raises(HandshakeError, match="looks for voter"):
        fresh.confirmed(eager.answered(reply)[0])


def test_a_voter_does_not_speak_to_itself() -> None:
    with pytest.raises(HandshakeError, match="this voter"):
        listener(me=A).greeted(dialler(wanted=A).hello)


def test_a_recorded_handshake_cannot_be_replayed() -> None:
    one, other = dialler(), listener()
    confirm, _ = one.answered(other.greeted(one.hello))
    again = listener()
    again.greeted(one.hello)
    with pytest.raises(HandshakeError, match="prove"):
        again.confirmed(confirm)


def test_an_answer_cannot_be_reflected_or_replayed() -> None:
    first = dialler()
    answer = listener().greeted(first.hello)
    with pytest.raises(HandshakeError, match="prove"):
        dialler().answered(answer)


@pytest.mark.parametrize("offset", range(0, HELLO_LENGTH, 3))
def test_a_changed_greeting_is_refused(offset: int) -> None:
    hello = bytearray(dialler().hello)
    hello[offset] ^= 1
    with pytest.raises(HandshakeError):
        listener().greeted(bytes(hello))


@given(st.binary(min_size=HELLO_LENGTH, max_size=HELLO_LENGTH))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(HandshakeError):
        listener().greeted(noise)


def test_a_worthless_ephemeral_key_is_refused() -> None:
    # The all-zero point makes the shared secret known to everybody.
    key = group_keys([NEW], CLUSTER)[0]
    head = dialler().hello[: HELLO_LENGTH - 32 - 32] + bytes(32)
    with pytest.raises(HandshakeError, match="ephemeral"):
        listener().greeted(head + key.tag(b"hello", head))


@pytest.mark.parametrize("keys", [[], [bytes(16)]])
def test_there_must_be_a_key_of_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        group_keys(keys, CLUSTER)


def test_frames_arrive_in_pieces_of_any_size() -> None:
    sealer, opener = Sealer(NEW), Opener(NEW)
    data = b"".join(map(sealer.seal, (b"one", b"", b"three" * 1000)))
    got = [frame for byte in data for frame in opener.feed(bytes((byte,)))]
    assert got == [b"one", b"", b"three" * 1000]


@pytest.mark.parametrize(
    "meddle",
    [
        lambda one, two: one + one,
        lambda one, two: two,
        lambda one, two: one[:-1] + bytes((one[-1] ^ 1,)),
        lambda one, two: bytes((one[0] + 1,)) + one[1:] + b"x",
    ],
    ids=["replayed", "dropped", "changed", "length changed"],
)
def test_frames_that_were_meddled_with_are_refused(meddle: Callable[[bytes, bytes], bytes]) -> None:
    sealer = Sealer(NEW)
    data = meddle(sealer.seal(b"one"), sealer.seal(b"two"))
    with pytest.raises(FrameError, match="not authentic"):
        Opener(NEW).feed(data)


def test_an_oversized_frame_is_refused_before_it_is_read() -> None:
    opener = Opener(NEW)
    with pytest.raises(FrameError, match="announces"):
        opener.feed((MAX_FRAME + 17).to_bytes(4, "little"))
    with pytest.raises(FrameError):
        Sealer(NEW).seal(bytes(MAX_FRAME + 1))


APPEND = {
    "type": "append_entries",
    "term": 3,
    "commit_index": 1,
    "entries": [(b"\x00op", 2, 1), (b"\x01", 3, 3)],
    "prevLogIdx": 1,
    "prevLogTerm": 1,
}
GOOD: list[dict[str, Any]] = [
    APPEND,
    {"type": "append_entries", "term": 3, "commit_index": 0, "serialized": (b"x", True, False)},
    {"type": "append_entries", "term": 3, "commit_index": 0, "serialized": None},
    {"type": "next_node_idx", "term": 3, "next_node_idx": 4, "reset": False, "success": True},
    {"type": "timeout_now", "term": 3},
    {"type": "newer_term", "term": 3},
    {"type": "pre_vote", "term": 3, "last_log_index": 1, "last_log_term": 1},
]


@pytest.mark.parametrize("message", GOOD, ids=lambda each: str(each["type"]))
def test_a_message_comes_back_as_it_was(message: dict[str, Any]) -> None:
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize(
    "changed",
    [
        {"entries": [(b"\x00op", 3, 1)]},
        {"entries": [(b"\x00op", 2, 1), (b"\x01", 3, 0)]},
        {"entries": [(b"\x00op", 2, 4)]},
        {"entries": [(b"\x03op", 2, 1)]},
        {"entries": [(b"\x02" + pickle.dumps(["add", "x"]), 2, 1)]},
        {"entries": [(b"\x00" + bytes(200_000), 2, 1)]},
        {"entries": None},
        {"term": -1},
        {"term": True},
        {"term": 1 << 62},
        {"prevLogIdx": None},
    ],
    ids=lambda each: str(each)[:40],
)
def test_a_message_that_could_not_be_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decode_message(encode_message(APPEND | changed))


@pytest.mark.parametrize("kind", ["apply_command", "add", "status", "append_entries"])
def test_the_librarys_other_messages_do_not_exist(kind: str) -> None:
    with pytest.raises(MessageError):
        encode_message({"type": kind, "command": b""})


@given(st.binary(max_size=100) | st.binary(max_size=60).map(pickle.dumps))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    try:
        message = decode_message(data)
    except MessageError:
        return
    assert encode_message(message) == data or "entries" in message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text("VASap"),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=15,
)


@given(st.sampled_from("VvASaTPpN"), st.lists(JSON, max_size=6))
def test_a_message_with_other_fields_is_refused_or_whole(letter: str, fields: list[Any]) -> None:
    try:
        message = decode_message(msgpack.packb([letter, *fields]))
    except MessageError:
        return
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("size", [1, 100, MAX_COMMAND])
def test_entries_of_any_size_fit_into_a_frame(size: int) -> None:
    command = bytes(size)
    entries = [(command, index, 1) for index in range(1 << 40, (1 << 40) + 60_000)]
    sent = fitting(entries)
    message = APPEND | {"entries": sent, "prevLogIdx": (1 << 40) - 1}
    assert len(encode_message(message)) <= MAX_FRAME
    assert sent == entries[: len(sent)]
    assert len(sent) > 3
