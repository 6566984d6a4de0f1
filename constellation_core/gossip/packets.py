"""What wraps messages inside the encryption: compound, CRC and compression.

Everything that comes in is bounded: depth of nesting, number of parts, size when decompressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

from constellation_core.gossip import lzw
from constellation_core.gossip.messages import (
    DecodeError,
    MessageType,
    decode_map,
    encode_map,
)

MAX_DATAGRAM = 65_507
MAX_STREAM = 20 * 1024 * 1024
"""Bytes; memberlist's limit for what one stream may carry."""
MAX_COMPRESSED = 4 * 1024 * 1024
"""Bytes; takes seconds to decompress, and holds the view of 50 000 nodes."""
MAX_DECOMPRESSED = MAX_STREAM
MAX_PARTS = 255
_MAX_DEPTH = 4
_COMPRESS_LZW = 0
_WRAPPERS = frozenset((MessageType.COMPRESS, MessageType.COMPOUND))


def compound(messages: Sequence[bytes]) -> list[bytes]:
    """Pack messages into as few compound messages as their one-byte count allows."""
    packed = []
    for start in range(0, len(messages), MAX_PARTS):
        parts = messages[start : start + MAX_PARTS]
        if len(parts) == 1:
            packed.append(parts[0])
            continue
        lengths = struct.pack(f">{len(parts)}H", *map(len, parts))
        packed.append(bytes((MessageType.COMPOUND, len(parts))) + lengths + b"".join(parts))
    return packed


def compress(message: bytes) -> bytes:
    """Wrap ``message`` into a compressed one."""
    fields = {"Algo": _COMPRESS_LZW, "Buf": lzw.compress(message)}
    return bytes((MessageType.COMPRESS,)) + encode_map(fields)


def decompress(body: bytes, most: int = MAX_DECOMPRESSED) -> bytes:
    """What a compressed message (without its type byte) holds.

    Raises:
        DecodeError: when it is invalid, too large, or of another algorithm.
    """
    fields = decode_map("compress", body)
    if fields.number(b"Algo") != _COMPRESS_LZW:
        raise DecodeError("compress: unknown algorithm")
    try:
        return lzw.decompress(fields.raw(b"Buf", most=MAX_COMPRESSED), most)
    except lzw.LZWError as error:
        raise DecodeError(f"compress: {error}") from None


def add_crc(message: bytes) -> bytes:
    """Prefix ``message`` with its CRC-32, for receivers of protocol version 5."""
    return bytes((MessageType.HAS_CRC,)) + struct.pack(">I", zlib.crc32(message)) + message


def unwrap(message: bytes) -> Iterable[bytes]:
    """The plain messages in a compound or compressed one; broken parts are left out.

    Raises:
        DecodeError: when the message as a whole is broken.
    """
    # Nearly always there is nothing to take apart, or one level.
    if message and message[0] not in _WRAPPERS:
        return (message,)
    if message and message[0] == MessageType.COMPOUND:
        parts = _split(message)
        if not any(part[0] in _WRAPPERS for part in parts):
            return parts
    return _Unwrapper().parts(message, 0)


class _Unwrapper:
    """Takes one datagram apart.

    A sender fills a datagram before it compresses, so all that is compressed in one never gives
    more than a datagram holds. Counted over all parts: a few hundred small bombs are one, too.
    """

    def __init__(self) -> None:
        self._room = MAX_DATAGRAM

    def parts(self, message: bytes, depth: int) -> Iterator[bytes]:
        if not message:
            raise DecodeError("an empty message")
        if depth > _MAX_DEPTH:
            raise DecodeError("nested too deeply")
        if message[0] == MessageType.COMPRESS:
            plain = decompress(message[1:], self._room)
            self._room -= len(plain)
            yield from self.parts(plain, depth + 1)
        elif message[0] == MessageType.COMPOUND:
            for part in _split(message):
                yield from self.parts(part, depth + 1)
        else:
            yield message


def _split(message: bytes) -> list[bytes]:
    if len(message) < 2 or len(message) < 2 + 2 * message[1]:
        raise DecodeError("compound: cut off")
    count = message[1]
    lengths = struct.unpack_from(f">{count}H", message, 2)
    parts = []
    position = 2 + 2 * count
    for length in lengths:
        # memberlist skips what was cut off at the end and keeps the rest.
        if length == 0 or position + length > len(message):
            break
        parts.append(message[position : position + length])
        position += length
    return parts
