"""Records of the journal: length, CRC-32, kind and payload; pure functions over bytes.

The CRC covers the record's offset too, so that a record that is valid at one place is not at
another. A MARK says up to where the file was synced when it was written: of two explanations
for an unreadable record, *torn* (it was being written when the machine stopped, and nobody was
ever told of it) and *corrupt* (it was durable and acknowledged), the marks behind it decide.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

ENTRY = 1
"""index, term, command"""
TRUNCATE = 2
"""index of the first entry that is no longer in the log"""
TERM = 3
"""term, then the id of who got this voter's vote in it; empty for nobody"""
MARK = 4
"""offset up to which the file is durable, and how many of the last entries are not committed"""

_MARK = struct.Struct("<II")
_FRAME = struct.Struct("<IIB")
_OFFSET = struct.Struct("<Q")
_MAX_PAYLOAD = 1 << 21
_MARK_LENGTH = struct.pack("<I", _MARK.size)
_MAX_NUMBER = 1 << 63


@dataclass(frozen=True, slots=True)
class Record:
    """A valid record, and the offset behind it."""

    kind: int
    payload: bytes
    end: int


def encode(offset: int, kind: int, payload: bytes) -> bytes:
    """The record as it stands at ``offset`` of the file."""
    return _FRAME.pack(len(payload), _crc(offset, kind, payload), kind) + payload


def parse(data: bytes, offset: int) -> Record | None:
    """The record at ``offset``, or ``None`` when there is no valid one."""
    if offset + _FRAME.size > len(data):
        return None
    length, crc, kind = _FRAME.unpack_from(data, offset)
    if kind == 0:
        # Room that was reserved.
        return None
    start = offset + _FRAME.size
    if length > _MAX_PAYLOAD or start + length > len(data):
        return None
    payload = data[start : start + length]
    if crc != _crc(offset, kind, payload):
        return None
    return Record(kind, payload, start + length)


def mark(durable: int, uncommitted: int) -> bytes:
    """The payload of a MARK; always of one length, by which one can be found."""
    return _MARK.pack(durable, min(uncommitted, 0xFFFFFFFF))


def parse_mark(payload: bytes) -> tuple[int, int]:
    """Offset and number of a MARK.

    Raises:
        struct.error: it has another length.
    """
    durable, uncommitted = _MARK.unpack(payload)
    return durable, uncommitted


def numbers(*values: int) -> bytes:
    """Numbers in as few bytes as they need (LEB128): most records are small."""
    data = bytearray()
    for value in values:
        while value > 0x7F:
            data.append(value & 0x7F | 0x80)
            value >>= 7
        data.append(value)
    return bytes(data)


def parse_numbers(payload: bytes, count: int) -> tuple[list[int], bytes]:
    """So many numbers, and what follows them.

    Raises:
        ValueError: they do not end, or are too large.
    """
    values, value, shift = [], 0, 0
    for position, byte in enumerate(payload):
        value |= (byte & 0x7F) << shift
        shift += 7
        if value >= _MAX_NUMBER:
            break
        if byte <= 0x7F:
            values.append(value)
            value, shift = 0, 0
            if len(values) == count:
                return values, payload[position + 1 :]
    raise ValueError("numbers that do not end")


def durable_beyond(data: bytes, offset: int) -> bool:
    """Whether a mark after ``offset`` says that the file was once durable beyond it."""
    at = data.find(_MARK_LENGTH, offset)
    while at >= 0:
        record = parse(data, at)
        if record is not None and record.kind == MARK and parse_mark(record.payload)[0] > offset:
            return True
        at = data.find(_MARK_LENGTH, at + 1)
    return False


def _crc(offset: int, kind: int, payload: bytes) -> int:
    head = _OFFSET.pack(offset) + bytes((kind,)) + len(payload).to_bytes(4, "little")
    return zlib.crc32(payload, zlib.crc32(head))
