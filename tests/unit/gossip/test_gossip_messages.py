"""Messages survive the round trip; whatever else comes gives a DecodeError, soon and cheaply."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from constellation_core.gossip.member import decode_tags, encode_tags
from constellation_core.gossip.messages import (
    MAX_META,
    PLAIN,
    Ack,
    Alive,
    Dead,
    DecodeError,
    ErrorReply,
    IndirectPing,
    MessageType,
    Nack,
    Ping,
    Plain,
    Suspect,
    UserMessage,
    decode,
    encode,
)

NUMBERS = st.integers(0, 2**32 - 1)
PORTS = st.integers(0, 65_535)
NAMES = st.text(st.characters(codec="utf-8"), max_size=60)
ADDRESSES = st.one_of(
    st.just(b""), st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)
)
VERSIONS = st.binary(min_size=6, max_size=6)

MESSAGES: st.SearchStrategy[Plain | UserMessage] = st.one_of(
    st.builds(Ping, NUMBERS, NAMES, ADDRESSES, PORTS, NAMES),
    st.builds(
        IndirectPing, NUMBERS, ADDRESSES, PORTS, NAMES, st.booleans(), ADDRESSES, PORTS, NAMES
    ),
    st.builds(Ack, NUMBERS, st.binary(max_size=200)),
    st.builds(Nack, NUMBERS),
    st.builds(Suspect, NUMBERS, NAMES, NAMES),
    st.builds(Dead, NUMBERS, NAMES, NAMES),
    st.builds(Alive, NUMBERS, NAMES, ADDRESSES, PORTS, st.binary(max_size=MAX_META), VERSIONS),
    st.builds(ErrorReply, NAMES),
    st.builds(UserMessage, st.binary(max_size=300)),
)


@given(MESSAGES)
def test_messages_survive_the_round_trip(message: Plain | UserMessage) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x00")
@example(b"\x02\xc1")
@example(bytes((MessageType.ACK,)) + b"\xdf\xff\xff\xff\xff")
def test_arbitrary_bytes_give_a_message_or_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data)


@given(MESSAGES, st.data())
def test_a_mutated_message_gives_a_message_or_a_decode_error(
    message: Plain | UserMessage, data: st.DataObject
) -> None:
    encoded = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        decode(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))


FIELD_NAMES = st.sampled_from(
    ("SeqNo", "Node", "Payload", "Incarnation", "From", "Addr", "Port", "Meta", "Vsn", "Target")
) | st.sampled_from(("Nack", "SourceAddr", "SourcePort", "SourceNode", "Error", "Other"))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.binary(max_size=40),
        st.text(max_size=20),
        st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(PLAIN)), st.dictionaries(FIELD_NAMES, VALUES, max_size=8))
def test_fields_of_other_types_give_a_decode_error(kind: int, fields: dict[str, object]) -> None:
    data = bytes((kind,)) + msgpack.packb(fields, unicode_errors="surrogatepass")
    with contextlib.suppress(DecodeError):
        decode(data)


def test_unknown_fields_are_ignored_whatever_they_hold() -> None:
    fields = {"SeqNo": 7, "Future": [[1, 2], {"a": []}], "Extra": msgpack.ExtType(5, b"abc")}
    assert decode(b"\x0b" + msgpack.packb(fields)) == Nack(7)


@pytest.mark.parametrize("new_spec", [False, True])
def test_strings_are_read_in_the_old_and_the_new_dialect(new_spec: bool) -> None:
    fields = {"SeqNo": 1, "Node": "node-" + "n" * 40, "SourceAddr": b"\x7f\x00\x00\x01"}
    data = b"\x00" + msgpack.packb(fields, use_bin_type=new_spec)
    assert decode(data) == Ping(1, "node-" + "n" * 40, b"\x7f\x00\x00\x01")


def test_what_is_written_is_the_old_dialect_with_sorted_keys() -> None:
    message = Alive(3, "a", b"\x7f\x00\x00\x01", 7946, b"", bytes((1, 5, 2, 0, 0, 0)))
    assert encode(message) == (
        b"\x04\x86\xa4Addr\xa4\x7f\x00\x00\x01\xabIncarnation\x03\xa4Meta\xc0\xa4Node\xa1a"
        b"\xa4Port\xcd\x1f\x0a\xa3Vsn\xa6\x01\x05\x02\x00\x00\x00"
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"Node": b"n" * 257}, "Node"),
        ({"Node": b"\xff\xfe"}, "UTF-8"),
        ({"Meta": b"m" * 513}, "Meta"),
        ({"Vsn": b"v" * 7}, "Vsn"),
        ({"Addr": b"a" * 17}, "Addr"),
        ({"Port": 65_536}, "Port"),
        ({"Port": -1}, "Port"),
        ({"Port": True}, "Port"),
        ({"Incarnation": 2**32}, "Incarnation"),
        ({str(number): number for number in range(65)}, "not a message's map"),
    ],
)
def test_an_alive_with_a_field_out_of_bounds_is_refused(
    fields: dict[str, object], complaint: str
) -> None:
    with pytest.raises(DecodeError, match=complaint):
        decode(b"\x04" + msgpack.packb(fields, use_bin_type=False))


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_tags_survive_the_round_trip(tags: dict[str, str]) -> None:
    assert decode_tags(encode_tags(tags)) == tags


def test_tags_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="512 are allowed"):
        encode_tags({"key": "v" * 600})


@given(st.binary(max_size=MAX_META))
@example(b"\xff\x81\xa1a\x01")
@example(b"\xff\x90")
@example(b"\xff" + b"\x91" * 500)
def test_other_metadata_gives_no_tags_and_no_error(meta: bytes) -> None:
    for tags in (decode_tags(meta), decode_tags(b"\xff" + meta[:511])):
        assert all(isinstance(word, str) for pair in tags.items() for word in pair)
