"""What comes of an operation, and its bytes: a MessagePack list, status first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import msgpack


class Reason(IntEnum):
    """Why an operation was refused. A number's meaning never changes."""

    MALFORMED = 1
    KEY_SIZE = 2
    VALUE_SIZE = 3
    TOTAL_SIZE = 4
    TTL = 5
    LEASES = 6
    NOT_ENABLED = 7
    """Its version is above what the voters agreed on."""
    NO_REQUEST_ID = 8
    NO_SESSION = 9
    """The session is not known (any more): whether the request was done cannot be told."""
    FINISHED = 10
    """The client said that it does not wait for this sequence any more."""
    WINDOW = 11
    """Too many requests of the session are unfinished; this one was not done."""
    OUTDATED = 12
    """This voter's code is too old to tell; others have carried it out."""


@dataclass(frozen=True, slots=True)
class Done:
    """It is done, and ``revision`` is the state's since."""

    revision: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Not done: not what was expected. ``revision`` is the key's, 0 when there is none.

    Also for a lease that is not held (any more) with the given epoch.
    """

    revision: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A session was opened."""

    session: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is held.

    Attributes:
        epoch: higher than all before, of this lease and of the others.
        clean: the holder before released it; ``False`` also when that is not known.
        revision: the state's.
    """

    epoch: int
    clean: bool
    revision: int


@dataclass(frozen=True, slots=True)
class HeldByOther:
    """The lease is held by another one since ``revision``."""

    holder: str
    epoch: int
    revision: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """All were renewed but those in ``lost``, which are not held any more."""

    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Not done, and nothing was changed (but see ``OUTDATED`` and ``NO_SESSION``)."""

    reason: Reason


Result: TypeAlias = Done | Conflict | Opened | Granted | HeldByOther | Renewed | Refused

_DONE, _CONFLICT, _OPENED, _GRANTED, _HELD, _RENEWED, _REFUSED = range(7)


def encode_result(result: Result) -> bytes:
    """The bytes of ``result``."""
    match result:
        case Done(revision):
            items: list[object] = [_DONE, revision]
        case Conflict(revision):
            items = [_CONFLICT, revision]
        case Opened(session):
            items = [_OPENED, session]
        case Granted(epoch, clean, revision):
            items = [_GRANTED, epoch, clean, revision]
        case HeldByOther(holder, epoch, revision):
            items = [_HELD, holder, epoch, revision]
        case Renewed(lost):
            items = [_RENEWED, *lost]
        case Refused(reason):
            items = [_REFUSED, int(reason)]
    packed: bytes = msgpack.packb(items)
    return packed


def decode_result(data: bytes) -> Result:
    """The result that has these bytes.

    Raises:
        ValueError: for other bytes.
    """
    try:
        items = msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError("not a result") from error
    match items:
        case [int(status), int(number)] if status == _DONE:
            return Done(number)
        case [int(status), int(number)] if status == _CONFLICT:
            return Conflict(number)
        case [int(status), int(number)] if status == _OPENED:
            return Opened(number)
        case [int(status), int(epoch), bool(clean), int(revision)] if status == _GRANTED:
            return Granted(epoch, clean, revision)
        case [int(status), str(holder), int(epoch), int(revision)] if status == _HELD:
            return HeldByOther(holder, epoch, revision)
        case [int(status), *lost] if status == _RENEWED and all(type(e) is int for e in lost):
            return Renewed(tuple(lost))
        case [int(status), int(number)] if status == _REFUSED:
            return Refused(Reason(number))
    raise ValueError("not a result")
