"""Labels, both versions of the encryption, compression and checksums around messages."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.envelope import STREAM_HEADER, Envelope
from constellation_core.gossip.keyring import DecryptError, Keyring
from constellation_core.gossip.messages import (
    DecodeError,
    MessageType,
    Nack,
    NodeRow,
    PushPull,
    UserMessage,
    encode,
)
from constellation_core.gossip.packets import compound
from constellation_core.gossip.streams import decode_stream, encode_stream

RING = Keyring([b"k" * 32])
MESSAGE = encode(Nack(5))
ENVELOPES = [
    Envelope(keyring, label, compressing, checksums, version)
    for keyring, label, compressing, checksums, version in itertools.product(
        (None, RING), (b"", b"prod"), (False, True), (False, True), (0, 1)
    )
]


@given(st.sampled_from(ENVELOPES), st.integers(1, 100))
def test_a_datagram_survives_and_is_no_larger_than_said(envelope: Envelope, count: int) -> None:
    (packed,) = compound([MESSAGE] * count)
    sealed = envelope.seal_datagram(packed)
    assert len(sealed) <= len(packed) + envelope.overhead
    assert list(envelope.open_datagram(sealed)) == [MESSAGE] * count


@given(st.sampled_from(ENVELOPES), st.binary(min_size=1, max_size=500))
def test_a_stream_message_survives(envelope: Envelope, message: bytes) -> None:
    sealed = envelope.seal_stream(message)
    if envelope.keyring is None:
        return
    header, ciphertext = sealed[:STREAM_HEADER], sealed[STREAM_HEADER:]
    assert envelope.encrypted_length(header) == len(ciphertext)
    if not envelope.compressing:
        assert envelope.open_stream(header, ciphertext) == message
    damaged = bytes((header[0],)) + (len(ciphertext) + 1).to_bytes(4, "big")
    with pytest.raises(DecryptError):
        envelope.open_stream(damaged, ciphertext)


@pytest.mark.parametrize("keyring", [None, RING])
def test_only_the_same_label_is_taken(keyring: Keyring | None) -> None:
    prod, test, none = (Envelope(keyring, label) for label in (b"prod", b"test", b""))
    sealed = prod.seal_datagram(MESSAGE)
    assert list(prod.open_datagram(sealed)) == [MESSAGE]
    for other in (test, none):
        with pytest.raises(DecodeError, match="label"):
            list(other.open_datagram(sealed))
    with pytest.raises(DecodeError, match="label"):
        list(prod.open_datagram(none.seal_datagram(MESSAGE)))


def test_a_label_is_authenticated() -> None:
    sealed = Envelope(RING, b"prod").seal_datagram(MESSAGE)
    forged = sealed.replace(b"prod", b"test", 1)
    with pytest.raises(DecryptError):
        list(Envelope(RING, b"test").open_datagram(forged))


def test_settings_make_the_envelope() -> None:
    config = GossipConfig("a", label="prod", compress=True, protocol_versions=(1, 5, 1))
    envelope = Envelope.of(config, RING)
    assert (envelope.label, envelope.compressing, envelope.encryption_version) == (b"prod", True, 0)
    with pytest.raises(ValueError, match="255"):
        Envelope.of(GossipConfig("a", label="x" * 300), RING)


def test_whole_views_are_compressed_up_to_a_size_and_nothing_else_is() -> None:
    config = GossipConfig("a", compress_views=4096)
    envelope = Envelope.of(config, None)

    def view(rows: int) -> bytes:
        row = NodeRow("node", b"\x0a\0\0\1", 7946, b"m" * 40, 5, 0, config.versions)
        return encode_stream(PushPull(False, (row,) * rows, b""))

    small, large = view(20), view(200)
    sealed = envelope.seal_stream(small)
    assert sealed[0] == MessageType.COMPRESS
    assert len(sealed) < len(small) / 2
    assert decode_stream(sealed) == decode_stream(small)
    assert envelope.seal_stream(large) == large
    request = encode_stream(UserMessage(b"r" * 1000))
    assert envelope.seal_stream(request) == request
