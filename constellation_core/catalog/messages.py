"""The catalog's messages: user messages of the gossip, msgpack behind one byte.

The first byte is 0x80 or more: Serf has its own meaning for small ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from constellation_core.catalog.owners import Update
from constellation_core.catalog.rows import MAX_ROWS, RowError, decode_row
from constellation_core.gossip.unpack import Reader

_UPDATE = 0xC1
_COMPARE = 0xC2
_DIGEST = 0xC3
_EXCHANGE = 0xC4
_UPDATES = 0xC5

_MOST_OWNERS = 10_000

Digest = Mapping[str, tuple[int, int]]
"""Epoch and version by owner."""


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


Message = Update | Compare | DigestReply | PullRequest | Updates


def fingerprint(digest: Digest) -> bytes:
    """Eight bytes that are equal for equal digests."""
    text = msgpack.packb(sorted((owner, *known) for owner, known in digest.items()))
    return hashlib.blake2b(text, digest_size=8).digest()


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    match message:
        case Update():
            return _pack(_UPDATE, _plain(message))
        case Compare():
            return _pack(_COMPARE, [message.node, message.fingerprint])
        case DigestReply():
            return _pack(_DIGEST, _flat(message.digest))
        case PullRequest():
            offered = [_plain(update) for update in message.offered]
            return _pack(_EXCHANGE, [_flat(message.wanted), offered])
        case Updates():
            return _pack(_UPDATES, [_plain(update) for update in message.updates])


def decode(data: bytes) -> Message:
    """The inverse of :func:`encode`. Rows that are not acceptable are left out of updates.

    Raises:
        CatalogMessageError: when it is not a message of the catalog.
    """
    if not data:
        raise CatalogMessageError("empty")
    reader = Reader(data[1:], raw=False)
    try:
        match data[0]:
            case 0xC1:
                return _update(reader)
            case 0xC2:
                _tuple(reader, 2)
                return Compare(_name(reader.scalar()), _bytes(reader.scalar()))
            case 0xC3:
                return DigestReply(_digest(reader))
            case 0xC4:
                _tuple(reader, 2)
                return PullRequest(_digest(reader), _updates(reader))
            case 0xC5:
                return Updates(_updates(reader))
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise CatalogMessageError(f"{type(error).__name__}: {error}") from None
    raise CatalogMessageError(f"unknown message {data[0]:#x}")


def _pack(kind: int, plain: Any) -> bytes:
    body: bytes = msgpack.packb(plain)
    return bytes((kind,)) + body


def _plain(update: Update) -> list[Any]:
    rows = [[row.key, row.version, row.data] for row in update.rows]
    return [update.owner, update.epoch, update.base, update.version, rows]


def _flat(digest: Digest) -> list[Any]:
    return [[owner, *known] for owner, known in sorted(digest.items())]


def _tuple(reader: Reader, length: int) -> None:
    """Enter a list of exactly ``length`` elements."""
    if reader.array_header(length) != length:
        raise ValueError(f"a list of another length than {length}")


def _digest(reader: Reader) -> Digest:
    digest = {}
    for _ in range(reader.array_header(_MOST_OWNERS)):
        _tuple(reader, 3)
        owner = _name(reader.scalar())
        digest[owner] = (_count(reader.scalar()), _count(reader.scalar()))
    return digest


def _updates(reader: Reader) -> tuple[Update, ...]:
    return tuple(_update(reader) for _ in range(reader.array_header(_MOST_OWNERS)))


def _update(reader: Reader) -> Update:
    _tuple(reader, 5)
    owner = _name(reader.scalar())
    epoch, base, version = (_count(reader.scalar()) for _ in range(3))
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
