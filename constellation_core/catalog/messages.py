"""The catalog's messages: user messages of the gossip, msgpack behind one byte.

The first byte is 0x80 or more: Serf has its own meaning for small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgpack

from constellation_core.catalog.digest import MOST_OWNERS, Digest, pack_digest, unpack_digest
from constellation_core.catalog.owners import Known, Update
from constellation_core.catalog.rows import MAX_ROWS, Row, RowError, decode_row
from constellation_core.gossip.unpack import Reader

_UPDATE = 0xC1
_COMPARE = 0xC2
_DIGEST = 0xC3
_EXCHANGE = 0xC4
_UPDATES = 0xC5
_HEARD = 0xC6

CHUNK = 512 * 1024
"""About so many bytes of rows go in one message over TCP; the rest is asked for again."""

_REMEMBERED_SIZE = 2_048
"""Bytes; larger updates are not broadcast, so they do not come again."""


class CatalogMessageError(Exception):
    """Bytes that are not a message of the catalog."""


@dataclass(frozen=True, slots=True)
class Compare:
    """Asks whether the other side has the same catalog; also stands in push/pulls."""

    node: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class DigestReply:
    """The other side's digest; empty when the catalogs are the same."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Asks for what is above ``wanted``, and hands over ``offered``."""

    wanted: Digest
    offered: tuple[Update, ...] = ()


@dataclass(frozen=True, slots=True)
class Updates:
    """The answer to a :class:`PullRequest`."""

    updates: tuple[Update, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """Tells an owner what this node took of it from a third one, so that it can object."""

    owner: str
    known: Known


Message = Update | Compare | DigestReply | PullRequest | Updates | Heard


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    match message:
        case Update():
            return _pack(_UPDATE, _plain(message))
        case Compare():
            return _pack(_COMPARE, [message.node, message.fingerprint])
        case DigestReply():
            return _pack(_DIGEST, pack_digest(message.digest))
        case PullRequest():
            offered = [_plain(update) for update in message.offered]
            return _pack(_EXCHANGE, [pack_digest(message.wanted), offered])
        case Updates():
            return _pack(_UPDATES, [_plain(update) for update in message.updates])
        case Heard():
            return _pack(_HEARD, [message.owner, *message.known])


def chunk(updates: Iterable[Update], most: int = CHUNK) -> tuple[Update, ...]:
    """The first of ``updates``: as many as one message may hold, but one at least."""
    taken: list[Update] = []
    room = most
    for update in updates:
        room -= sum(row.size for row in update.rows)
        if taken and (room < 0 or len(taken) == MOST_OWNERS):
            break
        taken.append(update)
    return tuple(taken)


class Decoder:
    """Decodes messages, and remembers the latest updates and rows among them.

    A broadcast comes a dozen times in the same bytes, and a row comes again with each update of
    its owner. Simulated nodes may share a decoder, and with it what it has decoded: everything in
    a message is immutable.

    Args:
        updates: so many updates are remembered.
        rows: so many rows are remembered.
    """

    def __init__(self, *, updates: int = 256, rows: int = 1_024) -> None:
        self._row = lru_cache(maxsize=rows)(decode_row)
        self._known_update = lru_cache(maxsize=updates)(self._read_update)

    def decode(self, data: bytes) -> Message:
        """The inverse of :func:`encode`. Rows that are not acceptable are left out of updates.

        Raises:
            CatalogMessageError: when it is not a message of the catalog.
        """
        if not data:
            raise CatalogMessageError("empty")
        try:
            if data[0] == _UPDATE:
                return self._update(data[1:])
            reader = Reader(data[1:], raw=False)
            message = self._read(data[0], reader)
            _at_end(reader, len(data) - 1)
        except (msgpack.UnpackException, ValueError, TypeError) as error:
            raise CatalogMessageError(f"{type(error).__name__}: {error}") from None
        return message

    def _read(self, kind: int, reader: Reader) -> Message:
        match kind:
            case 0xC2:
                _tuple(reader, 2)
                return Compare(_name(reader.scalar()), _bytes(reader.scalar()))
            case 0xC3:
                return DigestReply(_digest(reader))
            case 0xC4:
                _tuple(reader, 2)
                return PullRequest(_digest(reader), self._updates(reader))
            case 0xC5:
                return Updates(self._updates(reader))
            case 0xC6:
                _tuple(reader, 4)
                owner = _name(reader.scalar())
                return Heard(owner, Known(*(_count(reader.scalar()) for _ in range(3))))
        raise ValueError(f"unknown message {kind:#x}")

    def _updates(self, reader: Reader) -> tuple[Update, ...]:
        count = reader.array_header(MOST_OWNERS)
        return tuple(self._update(reader.skipped()) for _ in range(count))

    def _update(self, body: bytes) -> Update:
        if len(body) > _REMEMBERED_SIZE:
            return self._read_update(body)
        return self._known_update(body)

    def _read_update(self, body: bytes) -> Update:
        reader = Reader(body, raw=False)
        update = _update(reader, self._row)
        _at_end(reader, len(body))
        return update


def decode(data: bytes) -> Message:
    """:meth:`Decoder.decode`, for a single message."""
    return Decoder().decode(data)


def _pack(kind: int, plain: Any) -> bytes:
    body: bytes = msgpack.packb(plain)
    return bytes((kind,)) + body


def _plain(update: Update) -> list[Any]:
    rows = [[row.key, row.version, row.data] for row in update.rows]
    return [update.owner, update.epoch, update.base, update.version, rows]


def _tuple(reader: Reader, length: int) -> None:
    """Enter a list of exactly ``length`` elements."""
    if reader.array_header(length) != length:
        raise ValueError(f"a list of another length than {length}")


def _at_end(reader: Reader, length: int) -> None:
    """See that nothing is smuggled behind a message: what is news is told on as it came."""
    if reader.position != length:
        raise ValueError("something stands behind it")


def _digest(reader: Reader) -> Digest:
    return unpack_digest(_bytes(reader.scalar()))


def _update(reader: Reader, decode_row: Callable[[str, str, int, bytes], Row]) -> Update:
    _tuple(reader, 5)
    owner = _name(reader.scalar())
    epoch, base, version = (_count(reader.scalar()) for _ in range(3))
    if base > version:
        raise ValueError("an update that leads back")
    kept = []
    damaged = False
    for _ in range(reader.array_header(MAX_ROWS)):
        _tuple(reader, 3)
        key, row_version = _name(reader.scalar()), _count(reader.scalar())
        data = _bytes(reader.scalar())
        if row_version > version:
            raise ValueError("a row is newer than its update")
        try:
            kept.append(decode_row(owner, key, row_version, data))
        except RowError:
            damaged = True
    return Update(owner, epoch, base, version, tuple(kept), damaged)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 400:
        raise ValueError("not a name")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("not bytes")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a counter")
    return value
