"""How streams are opened: the question, the answer, versions and keys."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.keyring import Keyring
from constellation_core.gossip.messages import DecodeError, MessageType, decode
from constellation_core.gossip.rpc.keys import KeyExchange, KeyExchangeError
from constellation_core.gossip.rpc.opening import (
    HIGHEST_VERSION,
    LOWEST_VERSION,
    StreamAnswer,
    StreamOpen,
    agreed_version,
    highest_common,
)
from constellation_core.gossip.streams import (
    IncompleteError,
    StreamBuffer,
    decode_stream,
    encode_stream,
)

QUESTION = StreamOpen(
    1, 1, "logs", b"\x01\x02", "node-a", "node-b", "0a0b0c0d", b"p" * 32, 1 << 20, 30_000, 5_000
)
ANSWER = StreamAnswer(b"p" * 32, 1, 2, b"q" * 32, 4096, 30_000)
RING = Keyring([b"k" * 32, b"l" * 32])

names = st.text(max_size=60)
numbers = st.integers(0, 2**32 - 1)
bytes_32 = st.binary(min_size=32, max_size=32)


@given(
    st.builds(
        StreamOpen,
        lowest=st.integers(0, 255),
        highest=st.integers(0, 255),
        service=st.text("abc-", max_size=64),
        versions=st.binary(max_size=32),
        source=names,
        target=names,
        key=st.text("0123456789abcdef", max_size=8),
        public=bytes_32,
        takes=numbers,
        silence=st.integers(100, 2**32 - 1),
        deadline=numbers,
    )
    | st.builds(
        StreamAnswer,
        asked=bytes_32,
        version=st.integers(0, 255),
        service_version=st.integers(0, 255),
        public=bytes_32,
        takes=numbers,
        silence=st.integers(100, 2**32 - 1),
        refusal=st.text("abc-", max_size=64),
        reason=names,
        hint=names,
    )
)
def test_question_and_answer_survive_the_wire(message: StreamOpen | StreamAnswer) -> None:
    data = encode_stream(message)
    assert decode_stream(data) == message
    buffer = StreamBuffer()
    complete = [buffer.feed(data[n : n + 1]) for n in range(len(data))]
    assert complete == [False] * (len(data) - 1) + [True]
    for end in range(len(data)):
        with pytest.raises(IncompleteError):
            decode_stream(data[:end])


@given(st.sampled_from([MessageType.STREAM_OPEN, MessageType.STREAM_ANSWER]), st.binary())
def test_anything_else_is_refused(kind: int, data: bytes) -> None:
    with contextlib.suppress(DecodeError, IncompleteError):
        decode_stream(bytes((kind,)) + data)


@pytest.mark.parametrize(
    "broken",
    [
        replace(QUESTION, public=b"short"),
        replace(QUESTION, public=b"x" * 33),
        replace(QUESTION, service="x" * 65),
        replace(QUESTION, versions=bytes(33)),
        replace(QUESTION, highest=256),
        replace(QUESTION, takes=2**32),
        replace(ANSWER, asked=b""),
        replace(ANSWER, reason="x" * 1025),
    ],
)
def test_what_is_too_long_or_too_short_is_refused(broken: StreamOpen | StreamAnswer) -> None:
    with pytest.raises(DecodeError):
        decode_stream(encode_stream(broken))


def test_streams_are_not_opened_by_datagrams() -> None:
    with pytest.raises(DecodeError):
        decode(encode_stream(QUESTION))


def test_a_peer_cannot_make_us_talk_all_the_time() -> None:
    eager = decode_stream(encode_stream(replace(QUESTION, silence=0)))
    assert isinstance(eager, StreamOpen)
    assert eager.silence == 100


def test_the_highest_common_version_is_chosen() -> None:
    assert highest_common(bytes([1, 2, 5]), bytes([2, 3, 1])) == 2
    assert highest_common(bytes([1]), bytes([2])) is None
    assert highest_common(b"", b"") is None
    assert agreed_version(replace(QUESTION, lowest=1, highest=9)) == HIGHEST_VERSION
    assert agreed_version(replace(QUESTION, lowest=HIGHEST_VERSION + 1, highest=9)) is None
    assert agreed_version(replace(QUESTION, lowest=0, highest=LOWEST_VERSION - 1)) is None


def test_both_sides_get_the_same_keys_and_each_stream_others() -> None:
    seen = set()
    for fingerprint in (RING.fingerprint, Keyring([b"l" * 32]).fingerprint):
        for _ in range(2):
            client, server = KeyExchange(RING, b"prod"), KeyExchange(RING, b"prod")
            keys = client.as_client(fingerprint, server.public)
            assert server.as_server(fingerprint, client.public) == keys
            seen |= {keys.of_client, keys.of_server}
    assert len(seen) == 8
    assert None not in seen


@pytest.mark.parametrize(
    ("ring", "label"), [(Keyring([b"x" * 32]), b"prod"), (RING, b"test"), (RING, b"")]
)
def test_another_key_or_label_gives_other_keys(ring: Keyring, label: bytes) -> None:
    client, server = KeyExchange(RING, b"prod"), KeyExchange(ring, label)
    ours = client.as_client(RING.fingerprint, server.public)
    theirs = server.as_server(ring.fingerprint, client.public)
    assert ours.of_client != theirs.of_client
    assert ours.of_server != theirs.of_server


def test_keys_need_the_rings_key_and_a_good_public_key() -> None:
    server = KeyExchange(RING, b"")
    with pytest.raises(KeyExchangeError, match="not in the ring"):
        server.as_server("00000000", b"p" * 32)
    with pytest.raises(KeyExchangeError, match="public"):
        server.as_server(RING.fingerprint, bytes(32))
    assert RING.fingerprint in RING
    assert "00000000" not in RING


def test_without_encryption_there_are_no_keys() -> None:
    client, server = KeyExchange(None, b""), KeyExchange(None, b"")
    assert client.public != server.public
    keys = client.as_client("", server.public)
    assert (keys.of_client, keys.of_server) == (None, None)
