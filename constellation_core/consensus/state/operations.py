"""What can be asked of the replicated state, and its bytes.

An operation is a MessagePack list: version, kind, session, sequence, how far the sequence is
above the client's floor, and the fields of the kind. The first five have this meaning in all
versions, so that a voter with older code can tell that it does not know an operation. A kind's
fields and its version, the first that knows it, never change: another meaning is another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import TypeAlias

import msgpack

LATEST = 1
"""The version of operations up to which this code knows all kinds."""

_HEADER = 5
_MAX_INT = (1 << 63) - 1


class MalformedError(ValueError):
    """Bytes that are not an operation."""


@dataclass(frozen=True, slots=True)
class Put:
    """Give ``key`` a value.

    ``expected``: do so only if the key's revision is this one; 0: only if there is no such key;
    ``None``: in any case.
    """

    key: str
    value: bytes
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove ``key``; ``expected`` as in :class:`Put`."""

    key: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Have the results of one client's requests remembered."""


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take a lease that nobody holds, or once more one's own, with a new epoch.

    Attributes:
        name: the lease.
        holder: who takes it; another one after every start of the process.
        ttl: milliseconds that it lives without a renewal.
    """

    name: str
    holder: str
    ttl: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew the leases that were given with these epochs; ascending, each once."""

    epochs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Expire:
    """End a lease, unless it was renewed since ``renewals`` were counted."""

    epoch: int
    renewals: int


@dataclass(frozen=True, slots=True)
class Release:
    """End a lease since its holder does not need it any more."""

    epoch: int


@dataclass(frozen=True, slots=True)
class RaiseVersion:
    """Allow operations up to ``version``, once every voter's code knows them."""

    version: int


@dataclass(frozen=True, slots=True)
class Recover:
    """Go on after entries were lost: free all leases, and move all counters by ``jump``.

    What was handed out by lost entries is below what will be handed out.
    """

    jump: int


Operation: TypeAlias = (
    Put | Delete | OpenSession | Acquire | Renew | Expire | Release | RaiseVersion | Recover
)


class Kind(IntEnum):
    """An operation's number in its bytes."""

    PUT = 1
    DELETE = 2
    OPEN_SESSION = 3
    ACQUIRE = 4
    RENEW = 5
    EXPIRE = 6
    RELEASE = 7
    RAISE_VERSION = 8
    RECOVER = 9


_VERSIONS = dict.fromkeys(Kind, 1)
"""The version since which a kind is known. New code asks old voters for old kinds as they do."""


@dataclass(frozen=True, slots=True)
class RequestId:
    """Tells a request from all others, also when it arrives twice.

    Attributes:
        session: the number that :class:`OpenSession` gave.
        sequence: counts the client's requests in this session, from 1.
        floor: the lowest sequence whose result the client still waits for.
    """

    session: int
    sequence: int
    floor: int


@dataclass(frozen=True, slots=True)
class Header:
    """What can be read of an operation of any version."""

    version: int
    kind: int
    request: RequestId | None
    fields: list[object]


def encode(operation: Operation, request: RequestId | None = None) -> bytes:
    """The bytes of ``operation``; with ``request``, carried out once however often it arrives."""
    kind, fields = _fields(operation)
    head: list[object] = [_VERSIONS[kind], int(kind), 0, 0, 0]
    if request is not None:
        head[2:] = [request.session, request.sequence, request.sequence - request.floor]
    packed: bytes = msgpack.packb(head + fields)
    return packed


def decode_header(data: bytes) -> Header:
    """Read what all versions have in common.

    Raises:
        MalformedError: for what is not an operation of any version.
    """
    try:
        items = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        # TypeError: a map, one of whose keys is a list.
        raise MalformedError("not MessagePack") from error
    if not isinstance(items, list) or len(items) < _HEADER:
        raise MalformedError("not a list with a header")
    version, kind, session, sequence, above = (_count(item) for item in items[:_HEADER])
    if session == 0:
        if sequence or above:
            raise MalformedError("a sequence without a session")
        return Header(version, kind, None, items[_HEADER:])
    if sequence == 0 or above >= sequence:
        raise MalformedError("a sequence below 1")
    return Header(version, kind, RequestId(session, sequence, sequence - above), items[_HEADER:])


def decode_operation(header: Header) -> Operation:
    """The operation behind ``header``.

    Raises:
        MalformedError: for a kind that is not known, or fields that are not those of its kind.
    """
    fields = header.fields
    match header.kind, len(fields):
        case Kind.PUT, 3:
            return Put(_text(fields[0]), _bytes(fields[1]), _expected(fields[2]))
        case Kind.DELETE, 2:
            return Delete(_text(fields[0]), _expected(fields[1]))
        case Kind.OPEN_SESSION, 0:
            return OpenSession()
        case Kind.ACQUIRE, 3:
            return Acquire(_text(fields[0]), _text(fields[1]), _count(fields[2]))
        case Kind.RENEW, _:
            return Renew(_ascending(fields))
        case Kind.EXPIRE, 2:
            return Expire(_count(fields[0]), _count(fields[1]))
        case Kind.RELEASE, 1:
            return Release(_count(fields[0]))
        case Kind.RAISE_VERSION, 1:
            return RaiseVersion(_count(fields[0]))
        case Kind.RECOVER, 1:
            return Recover(_count(fields[0]))
    raise MalformedError("no such kind, or not its fields")


def _fields(operation: Operation) -> tuple[Kind, list[object]]:
    match operation:
        case Put(key, value, expected):
            return Kind.PUT, [key, value, expected]
        case Delete(key, expected):
            return Kind.DELETE, [key, expected]
        case OpenSession():
            return Kind.OPEN_SESSION, []
        case Acquire(name, holder, ttl):
            return Kind.ACQUIRE, [name, holder, ttl]
        case Renew(epochs):
            # Differences: what is written most often is to be small.
            return Kind.RENEW, [*epochs[:1], *(b - a for a, b in pairwise(epochs))]
        case Expire(epoch, renewals):
            return Kind.EXPIRE, [epoch, renewals]
        case Release(epoch):
            return Kind.RELEASE, [epoch]
        case RaiseVersion(version):
            return Kind.RAISE_VERSION, [version]
        case Recover(jump):
            return Kind.RECOVER, [jump]


def _ascending(fields: list[object]) -> tuple[int, ...]:
    steps = [_count(field) for field in fields]
    if not steps or 0 in steps:
        raise MalformedError("epochs that do not ascend from 1")
    return tuple(accumulate(steps))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise MalformedError("not a count")
    return value


def _expected(value: object) -> int | None:
    return None if value is None else _count(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError("not text")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedError("not bytes")
    return value
