"""LZW: the round trip, Go's own output, and bombs."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from constellation_core.gossip import lzw

LITTLE_ALPHABET = st.lists(st.sampled_from(b"ab"), max_size=3000).map(bytes)


@given(st.binary(max_size=2000) | LITTLE_ALPHABET)
@example(b"")
@example(b"a" * 5000)
def test_round_trip(data: bytes) -> None:
    assert lzw.decompress(lzw.compress(data), len(data)) == data


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("alphabet", [2, 16, 256])
def test_round_trip_across_full_tables(seed: int, alphabet: int) -> None:
    rng = random.Random(seed)
    data = bytes(rng.randrange(alphabet) for _ in range(30_000))
    assert lzw.decompress(lzw.compress(data), len(data)) == data


@pytest.mark.parametrize(
    ("data", "compressed"),
    [
        (b"", "000302"),
        (b"a", "00c30404"),
        (b"TOBEORNOTTOBEORTOBEORNOT", "00a93c1152e48914274fa80824687061c183090302"),
    ],
)
def test_small_data_as_go_compresses_it(data: bytes, compressed: str) -> None:
    # Written by compress/lzw of Go 1.19: lzw.NewWriter(&buffer, lzw.LSB, 8).
    assert lzw.compress(data).hex() == compressed
    assert lzw.decompress(bytes.fromhex(compressed), 100) == data


@pytest.mark.parametrize(
    ("mask", "length", "digest"),
    [
        (0xFF, 27_301, "ba11198685180a0f"),
        (0x0F, 12_644, "d2ba63fad44788da"),
        (0x01, 3_176, "50f9ece85c7816c8"),
    ],
)
def test_large_data_as_go_compresses_it(mask: int, length: int, digest: str) -> None:
    # The length and the beginning of the SHA-256 of what Go 1.19 writes for the same bytes.
    state, data = 1, bytearray()
    for _ in range(20_000):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        data.append((state >> 24) & mask)
    compressed = lzw.compress(bytes(data))
    assert (len(compressed), sha256(compressed).hexdigest()[:16]) == (length, digest)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_give_data_within_the_limit_or_an_error(data: bytes) -> None:
    with contextlib.suppress(lzw.LZWError):
        assert len(lzw.decompress(data, 1000)) <= 1000


@given(st.binary(min_size=1, max_size=300), st.data())
def test_cut_off_data_is_an_error(data: bytes, draw: st.DataObject) -> None:
    compressed = lzw.compress(data)
    length = draw.draw(st.integers(0, len(compressed) - 2))
    with pytest.raises(lzw.LZWError):
        lzw.decompress(compressed[:length], 1000)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = lzw.compress(bytes(1_000_000))
    assert len(bomb) < 10_000
    tracemalloc.start()
    try:
        with pytest.raises(lzw.LZWError, match="more than 100000 bytes"):
            lzw.decompress(bomb, 100_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
