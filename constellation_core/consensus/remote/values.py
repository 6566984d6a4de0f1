"""Reading what strangers sent: each value is what it has to be, or the message is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgpack

from constellation_core.consensus.interface import Voter

T = TypeVar("T")

MAX_COUNT = (1 << 63) - 1

_ID = 64
_ADDRESS = 300


class MalformedError(ValueError):
    """Bytes that are no message, or not of a kind that is known."""


def unpack(data: bytes) -> object:
    """The one MessagePack object that ``data`` is."""
    try:
        return msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedError("not MessagePack") from error


def count(item: object, *, least: int = 0, most: int = MAX_COUNT) -> int:
    """A whole number within bounds."""
    if type(item) is not int or not least <= item <= most:
        raise MalformedError("not a number, or too high")
    return item


def flag(item: object) -> bool:
    """Yes or no."""
    if not isinstance(item, bool):
        raise MalformedError("neither yes nor no")
    return item


def text(item: object, *, most: int) -> str:
    """Text of at most so many bytes in UTF-8."""
    # What does not encode is half of a surrogate pair; MessagePack gives none.
    if not isinstance(item, str) or len(item) > most or len(item.encode()) > most:
        raise MalformedError("not text, or too long")
    return item


def items(given: object, read: Callable[[object], T]) -> tuple[T, ...]:
    """A list, all of whose items are read with ``read``."""
    if not isinstance(given, list):
        raise MalformedError("not a list")
    return tuple(map(read, given))


def voter(item: object) -> Voter:
    """A voter's id and address."""
    match item:
        case [voter_id, address]:
            return Voter(text(voter_id, most=_ID), text(address, most=_ADDRESS))
    raise MalformedError("not a voter")
