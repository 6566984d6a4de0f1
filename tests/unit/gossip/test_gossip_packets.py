"""Datagrams: wrapped and unwrapped; hostile ones cost little and raise only what is documented."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.keyring import DecryptError, Keyring
from constellation_core.gossip.messages import (
    DecodeError,
    MessageType,
    Nack,
    decode,
    encode,
)
from constellation_core.gossip.packets import (
    MAX_DATAGRAM,
    MAX_PARTS,
    add_crc,
    compound,
    compress,
    decompress,
)

RING = Keyring([b"k" * 32])
MESSAGE = encode(Nack(5))
PLAIN_MESSAGES = st.binary(min_size=1, max_size=60).filter(
    lambda data: data[0] not in (MessageType.COMPOUND, MessageType.COMPRESS, MessageType.HAS_CRC)
)


@given(
    st.lists(PLAIN_MESSAGES, min_size=1, max_size=20),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, RING]),
)
def test_a_datagram_survives_the_round_trip(
    messages: list[bytes], compressed: bool, crc: bool, keyring: Keyring | None
) -> None:
    (packed,) = compound(messages)
    if compressed:
        packed = compress(packed)
    if crc:
        packed = add_crc(packed)
    assert (
        list(Envelope(keyring).open_datagram(Envelope(keyring).seal_datagram(packed))) == messages
    )


@given(st.integers(0, 700))
def test_more_messages_than_one_count_holds_are_split(count: int) -> None:
    messages = [encode(Nack(number)) for number in range(count)]
    packed = compound(messages)
    assert len(packed) == -(-count // MAX_PARTS)
    assert [part for each in packed for part in Envelope().open_datagram(each)] == messages


def read_all(datagram: bytes, keyring: Keyring | None = None) -> None:
    with contextlib.suppress(DecodeError, DecryptError):
        for part in Envelope(keyring).open_datagram(datagram):
            with contextlib.suppress(DecodeError):
                decode(part)


@given(st.binary(max_size=600), st.sampled_from([None, RING]))
@example(b"", None)
@example(b"\x0c", None)
@example(b"\x07\xff", None)
@example(b"\xf4\x05label", None)
def test_arbitrary_bytes_raise_only_what_is_documented(
    data: bytes, keyring: Keyring | None
) -> None:
    read_all(data, keyring)
    if keyring is not None and data:
        # Also from one who has the key.
        read_all(keyring.encrypt(data), keyring)


@given(st.lists(PLAIN_MESSAGES, min_size=1, max_size=5), st.booleans(), st.data())
def test_mutated_datagrams_raise_only_what_is_documented(
    messages: list[bytes], compressed: bool, data: st.DataObject
) -> None:
    (packed,) = compound(messages)
    mutated = bytearray(compress(packed) if compressed else packed)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    read_all(bytes(mutated))


@given(st.binary(min_size=1, max_size=100), st.integers(0, 100), st.integers(1, 255))
def test_a_wrong_checksum_is_noticed(body: bytes, position: int, change: int) -> None:
    message = bytearray(add_crc(body))
    message[1 + position % (len(message) - 1)] ^= change
    with pytest.raises(DecodeError, match="checksum"):
        Envelope().open_datagram(bytes(message))


def test_parts_that_are_cut_off_are_skipped_and_the_others_kept() -> None:
    (packed,) = compound([MESSAGE, MESSAGE, MESSAGE])
    assert list(Envelope().open_datagram(packed[:-1])) == [MESSAGE, MESSAGE]


def test_a_label_is_refused() -> None:
    with pytest.raises(DecodeError, match="label"):
        Envelope().open_datagram(b"\xf4\x05label" + MESSAGE)


def test_plain_datagrams_do_not_pass_a_keyring() -> None:
    with pytest.raises(DecryptError):
        Envelope(RING).open_datagram(MESSAGE * 10)


def test_a_datagram_that_no_socket_gives_is_refused() -> None:
    with pytest.raises(DecodeError, match="too long"):
        Envelope().open_datagram(bytes(MAX_DATAGRAM + 1))


@pytest.mark.parametrize("algorithm", [1, 255, -1, "x", None])
def test_another_algorithm_is_refused(algorithm: object) -> None:
    body = msgpack.packb({"Algo": algorithm, "Buf": b"abc"}, use_bin_type=False)
    if algorithm is None:
        # Absent means zero; then the data is at fault.
        with pytest.raises(DecodeError):
            decompress(body)
        return
    with pytest.raises(DecodeError, match="lgo"):
        decompress(body)


def wrapped(times: int, wrap: Callable[[bytes], bytes]) -> bytes:
    message = MESSAGE
    for _ in range(times):
        message = wrap(message)
    return message


@pytest.mark.parametrize("times", [5, 6, 12])
@pytest.mark.parametrize("wrap", [compress, lambda part: compound([part, b"x"])[0]])
def test_deep_nesting_is_refused(times: int, wrap: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodeError, match=r"too deeply|cut off|too long"):
        list(Envelope().open_datagram(wrapped(times, wrap)))


def nested_lists(length: int) -> bytes:
    """Lists in lists that each claim nearly all of the datagram."""
    header = b"\x81\xa5SeqNo" + (b"\xdd" + (length - 100).to_bytes(4, "big")) * 1000
    return bytes((MessageType.NACK,)) + header + b"\xc0" * (length - len(header))


def compound_of(part: bytes) -> bytes:
    count = min(MAX_PARTS, (MAX_DATAGRAM - 2) // (len(part) + 2))
    return compound([part] * count)[0]


HOSTILE = {
    "bomb": compress(bytes(2_000_000)),
    "bombs in a compound": compound_of(compress(bytes(200_000))),
    "a compressed compound of bombs": compress(compound_of(compress(bytes(60_000)))),
    "a bomb in a bomb": compress(compress(bytes(1_000_000))),
    "compound of empty parts": b"\x07\xff" + bytes(65_000),
    "compounds of compounds": compound_of(compound_of(b"\x0b" * 1)[:250]),
    "nested lists": nested_lists(60_000),
    "deep lists": b"\x0b\x81\xa1x" + b"\x91" * 60_000,
    "deep maps": b"\x0b" + b"\x81\xa1x" * 20_000,
    "empty lists": b"\x0b\x82\xa1x\xdc\xff\x00" + b"\x90" * 0xFF00,
    "a list for a key": b"\x0b\x81\xdc\xff\x00" + b"\x90" * 0xFF00,
    "a map that claims 2**32 pairs": b"\x0b\xdf\xff\xff\xff\xff" + b"\x01" * 60_000,
    "bytes that claim 2**32": b"\x0b\x81\xa1x\xc6\xff\xff\xff\xff" + bytes(60_000),
    "a compressed message that claims 2**32": b"\x09\x81\xa3Buf\xdb\xff\xff\xff\xff"
    + bytes(60_000),
    "garbage to decompress": compress(b"")[:10] + bytes(range(256)) * 200,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("keyring", [None, RING])
def test_hostile_datagrams_cost_little(name: str, keyring: Keyring | None) -> None:
    # The largest bound memory, not the time of a busy machine; that one is generous.
    datagram = HOSTILE[name]
    if len(datagram) > MAX_DATAGRAM - 29:
        datagram = datagram[: MAX_DATAGRAM - 29]
    datagram = Envelope(keyring).seal_datagram(datagram)
    tracemalloc.start()
    try:
        started = time.process_time()
        read_all(datagram, keyring)
        spent = time.process_time() - started
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert spent < 1.0


def test_what_a_datagram_decompresses_to_is_limited_over_all_its_parts() -> None:
    small_bomb = compress(bytes(10_000))
    datagram = compound([small_bomb] * 100)[0]
    parts: list[bytes] = []
    with pytest.raises(DecodeError, match="more than"):
        parts.extend(Envelope().open_datagram(datagram))
    assert sum(map(len, parts)) <= MAX_DATAGRAM
