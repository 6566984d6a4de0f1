"""LZW as Go's ``compress/lzw`` writes it (least significant bit first, 8-bit literals).

memberlist compresses with it by default, so a node that joins one of Go's must read it.
Codes have 9 to 12 bits; 256 clears the table, 257 ends the data. The first code is a clear.
"""

from __future__ import annotations

CLEAR = 256
END = 257
_FIRST_FREE = 258
_MOST_BITS = 12


class LZWError(Exception):
    """The compressed data is not valid, or larger than allowed when decompressed."""


def compress(data: bytes) -> bytes:
    """Compress ``data``, byte for byte as Go does."""
    out = bytearray()
    accumulator = 0
    pending = 0
    width = 9
    table: dict[tuple[int, int], int] = {}
    free = _FIRST_FREE - 1
    overflow = 1 << width

    def emit(code: int) -> None:
        nonlocal accumulator, pending
        accumulator |= code << pending
        pending += width
        while pending >= 8:
            out.append(accumulator & 0xFF)
            accumulator >>= 8
            pending -= 8

    emit(CLEAR)
    if data:
        code = data[0]
        for byte in data[1:]:
            known = table.get((code, byte))
            if known is not None:
                code = known
                continue
            emit(code)
            # What Go calls incHi: one more code is in use; widen, or start over when full.
            free += 1
            if free == overflow:
                width += 1
                overflow <<= 1
            if free == (1 << _MOST_BITS) - 1:
                emit(CLEAR)
                width, overflow, free = 9, 1 << 9, _FIRST_FREE - 1
                table.clear()
            else:
                table[code, byte] = free
            code = byte
        emit(code)
        free += 1
        if free == overflow:
            width += 1
        if free == (1 << _MOST_BITS) - 1:
            emit(CLEAR)
            width = 9
    emit(END)
    if pending:
        out.append(accumulator & 0xFF)
    return bytes(out)


def decompress(data: bytes, most: int) -> bytes:
    """Decompress ``data``.

    Raises:
        LZWError: when it is not valid, ends early, or gives more than ``most`` bytes.
    """
    out = bytearray()
    accumulator = 0
    pending = 0
    position = 0
    width = 9
    table: list[bytes] = []
    previous: bytes | None = None
    while True:
        while pending < width:
            if position >= len(data):
                raise LZWError("it ends early")
            accumulator |= data[position] << pending
            position += 1
            pending += 8
        code = accumulator & ((1 << width) - 1)
        accumulator >>= width
        pending -= width
        if code == CLEAR:
            table.clear()
            width = 9
            previous = None
            continue
        if code == END:
            return bytes(out)
        entry = _entry(code, table, previous)
        out += entry
        if len(out) > most:
            raise LZWError(f"it gives more than {most} bytes")
        if previous is not None and len(table) < (1 << _MOST_BITS) - _FIRST_FREE:
            table.append(previous + entry[:1])
        previous = entry
        # The next code that the encoder can have written needs room for one more entry.
        if len(table) + _FIRST_FREE + 1 > (1 << width) and width < _MOST_BITS:
            width += 1


def _entry(code: int, table: list[bytes], previous: bytes | None) -> bytes:
    if code < CLEAR:
        return bytes((code,))
    index = code - _FIRST_FREE
    if 0 <= index < len(table):
        return table[index]
    if index == len(table) and previous is not None:
        return previous + previous[:1]
    raise LZWError(f"code {code} is not defined yet")
