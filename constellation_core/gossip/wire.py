"""Reads and writes one protocol message on an asyncio stream, encrypted or not."""

from __future__ import annotations

import asyncio

from constellation_core.gossip.keyring import Keyring
from constellation_core.gossip.messages import DecodeError
from constellation_core.gossip.packets import (
    STREAM_HEADER,
    encrypted_length,
    open_stream,
    seal_stream,
)
from constellation_core.gossip.streams import (
    IncompleteError,
    StreamBuffer,
    StreamMessage,
    decode_stream,
    encode_stream,
)

_CHUNK = 65_536
_OFF_LOOP_ABOVE = 65_536
"""Bytes; larger messages are coded in a thread, so that the event loop goes on."""


async def write_message(
    writer: asyncio.StreamWriter, message: StreamMessage, keyring: Keyring | None
) -> int:
    """Send one message; returns how many bytes that took."""
    data = seal_stream(encode_stream(message), keyring)
    writer.write(data)
    await writer.drain()
    return len(data)


async def read_message(
    reader: asyncio.StreamReader, keyring: Keyring | None
) -> tuple[StreamMessage, int]:
    """Receive one message; returns it with the number of bytes that it took.

    Raises:
        DecryptError: when it is not encrypted as it should be, or with another key.
        DecodeError: when it is not a message, or too long.
        asyncio.IncompleteReadError: when the stream ends before the message does.
    """
    if keyring is None:
        return await _read_plain(reader)
    header = await reader.readexactly(STREAM_HEADER)
    length = encrypted_length(header)
    ciphertext = await _read_exactly(reader, length)
    size = STREAM_HEADER + length
    if length > _OFF_LOOP_ABOVE:
        return await asyncio.to_thread(_open, header, ciphertext, keyring), size
    return _open(header, ciphertext, keyring), size


def _open(header: bytes, ciphertext: bytes, keyring: Keyring) -> StreamMessage:
    return _decode(open_stream(header, ciphertext, keyring))


async def _read_exactly(reader: asyncio.StreamReader, length: int) -> bytes:
    # In pieces: memory grows with what was sent, not with the length that was claimed.
    data = bytearray()
    while len(data) < length:
        piece = await reader.read(min(_CHUNK, length - len(data)))
        if not piece:
            raise asyncio.IncompleteReadError(bytes(data), length)
        data += piece
    return bytes(data)


async def _read_plain(reader: asyncio.StreamReader) -> tuple[StreamMessage, int]:
    buffer = StreamBuffer()
    while True:
        piece = await reader.read(_CHUNK)
        if not piece:
            raise asyncio.IncompleteReadError(bytes(buffer.data), None)
        if buffer.feed(piece):
            break
    data = bytes(buffer.data)
    if len(data) > _OFF_LOOP_ABOVE:
        return await asyncio.to_thread(_decode, data), len(data)
    return _decode(data), len(data)


def _decode(message: bytes) -> StreamMessage:
    try:
        return decode_stream(message)
    except IncompleteError:
        raise DecodeError("a message that is cut off") from None
