"""memberlist's messages: their numbers, their fields, and msgpack in the old dialect.

One type byte, then a msgpack map whose keys are the names of Go's struct fields. Strings and
bytes are both "raw" (msgpack before 2013): ``use_bin_type=False`` writes just that, and
``raw=True`` reads it. Unknown keys are ignored, as Go's decoder does, so that newer versions
can add some.

Source: hashicorp/memberlist, ``net.go`` and ``state.go`` (protocol versions 1 to 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import msgpack

from constellation_core.gossip.unpack import Reader, unpack_flat


class DecodeError(Exception):
    """Bytes from the network that are not what they should be; the text says how."""


class MessageType(IntEnum):
    """The first byte of every message."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    HAS_CRC = 12
    ERROR = 13
    STREAM_OPEN = 197
    """Ours, far from memberlist's own: see ``rpc/opening.py``. So is the next."""
    STREAM_ANSWER = 198
    HAS_LABEL = 244


MAX_NAME = 256
MAX_META = 512
VERSION_LENGTH = 6


class Fields:
    """A decoded map, read field by field with the type that each must have."""

    def __init__(self, kind: str, fields: Mapping[bytes, Any]) -> None:
        self._kind = kind
        self._fields = fields

    def number(self, name: bytes, *, most: int = 0xFFFFFFFF) -> int:
        value = self._fields.get(name, 0)
        if type(value) is not int or not 0 <= value <= most:
            raise DecodeError(f"{self._kind}: {name.decode()} is not a number from 0 to {most}")
        return value

    def raw(self, name: bytes, *, most: int = 65_535) -> bytes:
        value = self._fields.get(name)
        if value is None:
            return b""
        if not isinstance(value, bytes) or len(value) > most:
            raise DecodeError(f"{self._kind}: {name.decode()} is not bytes of at most {most}")
        return value

    def text(self, name: bytes, *, most: int = MAX_NAME) -> str:
        try:
            return self.raw(name, most=most).decode()
        except UnicodeDecodeError:
            raise DecodeError(f"{self._kind}: {name.decode()} is not UTF-8") from None

    def flag(self, name: bytes) -> bool:
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise DecodeError(f"{self._kind}: {name.decode()} is not a boolean")
        return value


def decode_map(kind: str, data: bytes) -> Fields:
    """Decode one msgpack map; bytes behind it are ignored, as Go does.

    Raises:
        DecodeError: when there is none, or it is cut off.
    """
    flat = unpack_flat(data)
    if flat is not None:
        return Fields(kind, flat)
    try:
        return read_map(kind, Reader(data, raw=True))
    except msgpack.OutOfData:
        raise DecodeError(f"{kind}: cut off") from None


def read_map(kind: str, reader: Reader) -> Fields:
    """The map that stands at the reader's position.

    Raises:
        DecodeError: when it is not a map such as messages are.
        msgpack.OutOfData: when it is not complete.
    """
    try:
        fields = reader.fields()
    except msgpack.OutOfData:
        raise
    except (msgpack.UnpackException, ValueError, OverflowError) as error:
        raise DecodeError(f"{kind}: not a message's map ({type(error).__name__})") from None
    return Fields(kind, fields)


def encode_map(fields: Mapping[str, Any]) -> bytes:
    """A msgpack map in the old dialect, keys in alphabetical order like Go's."""
    encoded: bytes = msgpack.packb(dict(sorted(fields.items())), use_bin_type=False)
    return encoded


def _source(address: bytes, port: int, node: str) -> dict[str, Any]:
    # memberlist leaves these three out when they are empty.
    fields: dict[str, Any] = {}
    if address:
        fields["SourceAddr"] = address
    if port:
        fields["SourcePort"] = port
    if node:
        fields["SourceNode"] = node
    return fields


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks ``node`` to answer with an :class:`Ack` of the same ``seq``."""

    TYPE: ClassVar = MessageType.PING
    seq: int
    node: str
    source_address: bytes = b""
    source_port: int = 0
    source_node: str = ""

    def fields(self) -> dict[str, Any]:
        source = _source(self.source_address, self.source_port, self.source_node)
        return {"SeqNo": self.seq, "Node": self.node, **source}

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(
            data.number(b"SeqNo"),
            data.text(b"Node"),
            data.raw(b"SourceAddr", most=16),
            data.number(b"SourcePort", most=65_535),
            data.text(b"SourceNode"),
        )


@dataclass(frozen=True, slots=True)
class IndirectPing:
    """Asks the receiver to ping ``node`` on the sender's behalf."""

    TYPE: ClassVar = MessageType.INDIRECT_PING
    seq: int
    target: bytes
    port: int
    node: str
    nack: bool = False
    source_address: bytes = b""
    source_port: int = 0
    source_node: str = ""

    def fields(self) -> dict[str, Any]:
        return {
            "SeqNo": self.seq,
            "Target": self.target,
            "Port": self.port,
            "Node": self.node,
            "Nack": self.nack,
            **_source(self.source_address, self.source_port, self.source_node),
        }

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(
            data.number(b"SeqNo"),
            data.raw(b"Target", most=16),
            data.number(b"Port", most=65_535),
            data.text(b"Node"),
            data.flag(b"Nack"),
            data.raw(b"SourceAddr", most=16),
            data.number(b"SourcePort", most=65_535),
            data.text(b"SourceNode"),
        )


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a ping."""

    TYPE: ClassVar = MessageType.ACK
    seq: int
    payload: bytes = b""

    def fields(self) -> dict[str, Any]:
        return {"SeqNo": self.seq, "Payload": self.payload or None}

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(data.number(b"SeqNo"), data.raw(b"Payload"))


@dataclass(frozen=True, slots=True)
class Nack:
    """A relay's word that it is there, but heard nothing from the target."""

    TYPE: ClassVar = MessageType.NACK
    seq: int

    def fields(self) -> dict[str, Any]:
        return {"SeqNo": self.seq}

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(data.number(b"SeqNo"))


@dataclass(frozen=True, slots=True)
class Suspect:
    """``source`` got no answer from ``node``."""

    TYPE: ClassVar = MessageType.SUSPECT
    incarnation: int
    node: str
    source: str

    def fields(self) -> dict[str, Any]:
        return {"Incarnation": self.incarnation, "Node": self.node, "From": self.source}

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(data.number(b"Incarnation"), data.text(b"Node"), data.text(b"From"))


@dataclass(frozen=True, slots=True)
class Dead:
    """``node`` is dead; when it says so itself (``source == node``), it has left."""

    TYPE: ClassVar = MessageType.DEAD
    incarnation: int
    node: str
    source: str

    def fields(self) -> dict[str, Any]:
        return {"Incarnation": self.incarnation, "Node": self.node, "From": self.source}

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(data.number(b"Incarnation"), data.text(b"Node"), data.text(b"From"))


@dataclass(frozen=True, slots=True)
class Alive:
    """``node`` is there, at this address, with this metadata.

    ``versions`` is ``(protocol min, max, current, delegate min, max, current)``.
    """

    TYPE: ClassVar = MessageType.ALIVE
    incarnation: int
    node: str
    address: bytes
    port: int
    meta: bytes
    versions: bytes

    def fields(self) -> dict[str, Any]:
        return {
            "Incarnation": self.incarnation,
            "Node": self.node,
            "Addr": self.address,
            "Port": self.port,
            "Meta": self.meta or None,
            "Vsn": self.versions,
        }

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(
            data.number(b"Incarnation"),
            data.text(b"Node"),
            data.raw(b"Addr", most=16),
            data.number(b"Port", most=65_535),
            data.raw(b"Meta", most=MAX_META),
            data.raw(b"Vsn", most=VERSION_LENGTH),
        )


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """Why a stream request was refused."""

    TYPE: ClassVar = MessageType.ERROR
    error: str

    def fields(self) -> dict[str, Any]:
        return {"Error": self.error}

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(data.raw(b"Error", most=4096).decode(errors="replace"))


class NodeRow(NamedTuple):
    """One member in a push/pull: ``state`` is 0 alive, 1 suspect, 2 dead, 3 left.

    A tuple, since views are made of thousands: it is made, compared and looked up fastest.
    """

    name: str
    address: bytes
    port: int
    meta: bytes
    incarnation: int
    state: int
    versions: bytes

    def fields(self) -> dict[str, Any]:
        return {
            "Name": self.name,
            "Addr": self.address,
            "Port": self.port,
            "Meta": self.meta or None,
            "Incarnation": self.incarnation,
            "State": self.state,
            "Vsn": self.versions,
        }

    @classmethod
    def read(cls, data: Fields) -> Self:
        return cls(
            data.text(b"Name"),
            data.raw(b"Addr", most=16),
            data.number(b"Port", most=65_535),
            data.raw(b"Meta", most=MAX_META),
            data.number(b"Incarnation"),
            data.number(b"State", most=3),
            data.raw(b"Vsn", most=VERSION_LENGTH),
        )


@dataclass(frozen=True, slots=True)
class PushPull:
    """A whole view: every member, and what the application adds."""

    TYPE: ClassVar = MessageType.PUSH_PULL
    join: bool
    rows: tuple[NodeRow, ...]
    user_state: bytes = b""


@dataclass(frozen=True, slots=True)
class UserMessage:
    """Bytes of the application."""

    TYPE: ClassVar = MessageType.USER
    payload: bytes


Plain = Ping | IndirectPing | Ack | Nack | Suspect | Alive | Dead | ErrorReply
PLAIN: Mapping[int, type[Plain]] = {
    kind.TYPE: kind for kind in (Ping, IndirectPing, Ack, Nack, Suspect, Alive, Dead, ErrorReply)
}
_TOLD_ON = frozenset((MessageType.ALIVE, MessageType.SUSPECT, MessageType.DEAD))


def encode(message: Plain | UserMessage) -> bytes:
    """The bytes of a message, as they stand in a datagram."""
    if isinstance(message, UserMessage):
        return bytes((MessageType.USER,)) + message.payload
    return bytes((message.TYPE,)) + encode_map(message.fields())


def decode(data: bytes) -> Plain | UserMessage:
    """The inverse of :func:`encode`, for one message of a datagram.

    Raises:
        DecodeError: when it is not a message that may stand in a datagram.
    """
    if not data:
        raise DecodeError("an empty message")
    if data[0] == MessageType.USER:
        return UserMessage(data[1:])
    if data[0] in _TOLD_ON:
        return _decode_told_on(data)
    return _decode_plain(data)


def _decode_plain(data: bytes) -> Plain:
    kind = PLAIN.get(data[0])
    if kind is None:
        raise DecodeError(f"unknown message type {data[0]}")
    return kind.read(decode_map(kind.__name__.lower(), data[1:]))


@lru_cache(maxsize=1024)
def _decode_told_on(data: bytes) -> Plain:
    """Everybody tells everybody: each of these comes a dozen times, in the same bytes."""
    return _decode_plain(data)
