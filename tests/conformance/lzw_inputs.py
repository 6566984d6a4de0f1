"""What LZW is compared on: bytes that repeat not at all, a little, and much."""

from __future__ import annotations

_BOUNDARIES = (256, 512, 1024, 2048, 3838, 4096, 7676, 20_000, 60_000, 300_000)


def lzw_inputs() -> list[bytes]:
    """All around the places where codes get longer and tables are full, and some beyond."""
    state, noise = 1, bytearray()
    for _ in range(60_000):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        noise.append(state >> 24)
    kinds = (
        bytes(noise),
        bytes(byte & 3 for byte in noise),
        bytes(300_000),
        b"the same words again and again, " * 3000,
    )
    return [data[:length] for data in kinds for length in _lengths(len(data))]


def _lengths(most: int) -> list[int]:
    near = {length + delta for length in _BOUNDARIES for delta in range(-3, 4)}
    return sorted(n for n in {*range(40), *near} if n <= most)
