"""Reads and writes one protocol message on an asyncio stream, encrypted or not."""

from __future__ import annotations

import asyncio

from constellation_core.gossip.envelope import STREAM_HEADER, Envelope
from constellation_core.gossip.messages import DecodeError, MessageType
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
    writer: asyncio.StreamWriter,
    message: StreamMessage,
    envelope: Envelope,
    *,
    answer: bool = False,
) -> int:
    """Send the one message of this direction; returns how many bytes that took.

    A label stands before a request only: memberlist reads none from a connection that it opened.
    """
    plain = encode_stream(message)
    if len(plain) > _OFF_LOOP_ABOVE:
        data = await asyncio.to_thread(envelope.seal_stream, plain)
    else:
        data = envelope.seal_stream(plain)
    if not answer:
        data = envelope.header + data
    writer.write(data)
    await writer.drain()
    return len(data)


async def read_message(
    reader: asyncio.StreamReader, envelope: Envelope, *, answer: bool = False
) -> tuple[StreamMessage, int]:
    """Receive a request, or an answer; returns it with the number of bytes that it took.

    Raises:
        DecryptError: when it is not encrypted as it should be, or with another key.
        DecodeError: when it is not a message, or too long.
        asyncio.IncompleteReadError: when the stream ends before the message does.
    """
    label = b"" if answer else envelope.header
    if label and await _read_label(reader) != label:
        raise DecodeError("another cluster's label, or none")
    if envelope.keyring is None:
        message, size = await _read_plain(reader)
        return message, len(label) + size
    header = await reader.readexactly(STREAM_HEADER)
    if header[0] == MessageType.HAS_LABEL:
        raise DecodeError("a label, and this cluster has none")
    length = envelope.encrypted_length(header)
    ciphertext = await _read_exactly(reader, length)
    size = len(label) + STREAM_HEADER + length
    if length > _OFF_LOOP_ABOVE:
        return await asyncio.to_thread(_open, header, ciphertext, envelope), size
    return _open(header, ciphertext, envelope), size


def _open(header: bytes, ciphertext: bytes, envelope: Envelope) -> StreamMessage:
    return _decode(envelope.open_stream(header, ciphertext))


async def _read_label(reader: asyncio.StreamReader) -> bytes:
    start = await reader.readexactly(2)
    if start[0] != MessageType.HAS_LABEL:
        return b""
    return start + await reader.readexactly(start[1])


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
