"""Messages on streams: a whole view (push/pull), a ping over TCP, bytes of the application.

One request and at most one answer per connection. Without encryption a message has no length
on the wire, so it is parsed from what has arrived until it is complete.
"""

from __future__ import annotations

import msgpack

from constellation_core.gossip.messages import (
    PLAIN,
    DecodeError,
    MessageType,
    NodeRow,
    Plain,
    PushPull,
    UserMessage,
    encode,
    encode_map,
    new_unpacker,
    read_map,
)
from constellation_core.gossip.packets import MAX_STREAM, decompress

MAX_ROWS = 100_000

StreamMessage = Plain | PushPull | UserMessage


class IncompleteError(Exception):
    """More bytes are needed."""


def encode_stream(message: StreamMessage) -> bytes:
    """The bytes of a message as they stand in a stream, before encryption."""
    if isinstance(message, PushPull):
        header = {
            "Nodes": len(message.rows),
            "UserStateLen": len(message.user_state),
            "Join": message.join,
        }
        rows = b"".join(encode_map(row.fields()) for row in message.rows)
        return bytes((MessageType.PUSH_PULL,)) + encode_map(header) + rows + message.user_state
    if isinstance(message, UserMessage):
        header = {"UserMsgLen": len(message.payload)}
        return bytes((MessageType.USER,)) + encode_map(header) + message.payload
    return encode(message)


def decode_stream(data: bytes) -> StreamMessage:
    """Decode one message from the beginning of a stream.

    Raises:
        IncompleteError: when it may become a message with more bytes.
        DecodeError: when it never will.
    """
    if len(data) > MAX_STREAM:
        raise DecodeError("a stream message that is too long")
    if not data:
        raise IncompleteError
    try:
        return _decode(data, compressed=False)
    except msgpack.OutOfData:
        raise IncompleteError from None


def _decode(data: bytes, *, compressed: bool) -> StreamMessage:
    if not data:
        raise DecodeError("an empty message")
    kind, body = data[0], data[1:]
    if kind == MessageType.COMPRESS and not compressed:
        # A compressed message carries its length, so that what is in it is all there.
        unpacker = new_unpacker(len(body))
        unpacker.feed(body)
        unpacker.skip()
        try:
            return _decode(decompress(body), compressed=True)
        except (msgpack.OutOfData, IncompleteError):
            raise DecodeError("compress: it holds a message that is cut off") from None
    if kind == MessageType.PUSH_PULL:
        return _push_pull(body)
    if kind == MessageType.USER:
        return _user(body)
    plain = PLAIN.get(kind)
    if plain is None:
        raise DecodeError(f"a stream message of type {kind}")
    unpacker = new_unpacker(len(body))
    unpacker.feed(body)
    return plain.read(read_map(plain.__name__.lower(), unpacker))


def _push_pull(body: bytes) -> PushPull:
    unpacker = new_unpacker(len(body))
    unpacker.feed(body)
    header = read_map("push/pull", unpacker)
    count = header.number("Nodes", most=MAX_ROWS)
    length = header.number("UserStateLen", most=MAX_STREAM)
    rows = tuple(NodeRow.read(read_map("push/pull row", unpacker)) for _ in range(count))
    start = unpacker.tell()
    if len(body) - start < length:
        raise IncompleteError
    return PushPull(header.flag("Join"), rows, body[start : start + length])


def _user(body: bytes) -> UserMessage:
    unpacker = new_unpacker(len(body))
    unpacker.feed(body)
    length = read_map("user", unpacker).number("UserMsgLen", most=MAX_STREAM)
    start = unpacker.tell()
    if len(body) - start < length:
        raise IncompleteError
    return UserMessage(body[start : start + length])
