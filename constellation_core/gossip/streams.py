"""Messages on streams: a whole view (push/pull), a ping over TCP, bytes of the application.

One request and at most one answer per connection. Without encryption a message has no length
on the wire, so it is parsed from what has arrived until it is complete.
"""

from __future__ import annotations

from functools import lru_cache

import msgpack

from constellation_core.gossip.messages import (
    PLAIN,
    DecodeError,
    Fields,
    MessageType,
    NodeRow,
    Plain,
    PushPull,
    UserMessage,
    decode_map,
    encode_map,
    read_map,
)
from constellation_core.gossip.packets import MAX_STREAM, decompress
from constellation_core.gossip.rpc.opening import OPENING, Opening
from constellation_core.gossip.unpack import Reader

MAX_ROWS = 100_000
_USUAL_ROW = 1_024
"""Bytes; the longest name and metadata that are allowed fit into it."""
_FLAT = {**PLAIN, **OPENING}
_STREAM_TYPES = {MessageType.PUSH_PULL, MessageType.USER, MessageType.COMPRESS, *_FLAT}

StreamMessage = Plain | PushPull | UserMessage | Opening


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
        rows = b"".join(map(_encode_row, message.rows))
        return bytes((MessageType.PUSH_PULL,)) + encode_map(header) + rows + message.user_state
    if isinstance(message, UserMessage):
        header = {"UserMsgLen": len(message.payload)}
        return bytes((MessageType.USER,)) + encode_map(header) + message.payload
    return bytes((message.TYPE,)) + encode_map(message.fields())


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
        try:
            return _decode(decompress(body), compressed=True)
        except (msgpack.OutOfData, IncompleteError):
            raise DecodeError("compress: it holds a message that is cut off") from None
    if kind == MessageType.PUSH_PULL:
        return _push_pull(body)
    if kind == MessageType.USER:
        return _user(body)
    flat = _FLAT.get(kind)
    if flat is None:
        raise DecodeError(f"a stream message of type {kind}")
    return flat.read(read_map(flat.__name__.lower(), Reader(body, raw=True)))


def _push_pull(body: bytes) -> PushPull:
    reader = Reader(body, raw=True)
    header = read_map("push/pull", reader)
    count, length = _lengths(MessageType.PUSH_PULL, header)
    try:
        rows = tuple(_row(reader.skipped()) for _ in range(count))
    except msgpack.OutOfData:
        raise
    except (msgpack.UnpackException, ValueError) as error:
        raise DecodeError(f"push/pull row: not msgpack ({type(error).__name__})") from None
    return PushPull(header.flag(b"Join"), rows, _raw(body, reader.position, length))


# A view says of nearly every member what the one before said.


@lru_cache(maxsize=2048)
def _encode_row(row: NodeRow) -> bytes:
    return encode_map(row.fields())


def _row(data: bytes) -> NodeRow:
    # What is remembered is bounded in number and, here, in size.
    return _known_row(data) if len(data) <= _USUAL_ROW else _read_row(data)


def _read_row(data: bytes) -> NodeRow:
    return NodeRow.read(decode_map("push/pull row", data))


@lru_cache(maxsize=2048)
def _known_row(data: bytes) -> NodeRow:
    return _read_row(data)


def _user(body: bytes) -> UserMessage:
    reader = Reader(body, raw=True)
    _, length = _lengths(MessageType.USER, read_map("user", reader))
    return UserMessage(_raw(body, reader.position, length))


def _lengths(kind: int, header: Fields) -> tuple[int, int]:
    """How many maps, and then how many bytes, follow on the first map of a message."""
    if kind == MessageType.PUSH_PULL:
        rows = header.number(b"Nodes", most=MAX_ROWS)
        return rows, header.number(b"UserStateLen", most=MAX_STREAM)
    if kind == MessageType.USER:
        return 0, header.number(b"UserMsgLen", most=MAX_STREAM)
    return 0, 0


def _raw(body: bytes, start: int, length: int) -> bytes:
    if len(body) - start < length:
        raise IncompleteError
    return body[start : start + length]


class StreamBuffer:
    """Collects the pieces of one plain message until it is complete.

    Nothing says how long it is, but what is in it does. Each byte is looked at once, however
    small the pieces are.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self._scout = msgpack.Unpacker(raw=True, max_buffer_size=MAX_STREAM)
        self._maps = 0
        self._expected_maps = 1
        self._expected_bytes = 0

    def feed(self, piece: bytes) -> bool:
        """Add a piece; whether the message is complete now, and :attr:`data` can be decoded.

        Raises:
            DecodeError: when it will never be a message.
        """
        if len(self.data) + len(piece) > MAX_STREAM:
            raise DecodeError("a stream message that is too long")
        self._scout.feed(piece if self.data else piece[1:])
        self.data += piece
        kind = self.data[0] if self.data else MessageType.USER
        if kind not in _STREAM_TYPES:
            raise DecodeError(f"a stream message of type {kind}")
        try:
            while self._maps < self._expected_maps:
                self._skip_map(kind)
        except msgpack.OutOfData:
            return False
        except (msgpack.UnpackException, ValueError) as error:
            raise DecodeError(f"not msgpack ({type(error).__name__})") from None
        maps_end: int = 1 + self._scout.tell()
        return len(self.data) - maps_end >= self._expected_bytes

    def _skip_map(self, kind: int) -> None:
        self._scout.skip()
        self._maps += 1
        if self._maps == 1:
            header = read_map("stream", Reader(bytes(self.data[1:]), raw=True))
            more, self._expected_bytes = _lengths(kind, header)
            self._expected_maps += more
