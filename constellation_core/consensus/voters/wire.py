"""What agents ask each other about voters, and the bytes in which they do: MessagePack lists.

Every request may arrive twice, or late, and does no harm then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias
from uuid import UUID

import msgpack

from constellation_core.consensus.voters.founding import Founding
from constellation_core.consensus.voters.record import founding_fields, parse_founding

MAX_BYTES = 16 * 1024
_VERSION = 1
_MAX_INT = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Ask:
    """How do you stand?"""


@dataclass(frozen=True, slots=True)
class Promise:
    """Do you promise this founding?"""

    founding: Founding


@dataclass(frozen=True, slots=True)
class Form:
    """All have promised this founding: begin as one of its founders."""

    founding: Founding


@dataclass(frozen=True, slots=True)
class Prepare:
    """Wait, with an empty log, to be added as the voter ``voter`` of this cluster."""

    cluster: str
    voter: str


@dataclass(frozen=True, slots=True)
class Retire:
    """The voter ``voter`` is none of this cluster's; so the leader knows as of ``index``."""

    cluster: str
    voter: str
    index: int


Request: TypeAlias = Ask | Promise | Form | Prepare | Retire


class _Kind(IntEnum):
    ASK = 1
    PROMISE = 2
    FORM = 3
    PREPARE = 4
    RETIRE = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request, and how the asked one stands since.

    Attributes:
        done: it is done, or was before.
        reason: why not.
        order: of a refused promise: the highest order that was promised before.
        blocking: of a refused promise: what was promised before and is in the way.
        never: it will not be done later either.
        id: the UUID of its voter's directory, or of the one to be.
        address: of its engine.
        cluster: the cluster UUID that it knows of.
        former: UUIDs that the cluster had before.
    """

    done: bool
    reason: str
    order: int
    id: str
    address: str
    cluster: str | None
    former: tuple[str, ...] = ()
    blocking: Founding | None = None
    never: bool = False


def encode_request(request: Request) -> bytes:
    """The bytes of ``request``."""
    match request:
        case Ask():
            fields: list[object] = [_Kind.ASK]
        case Promise(founding):
            fields = [_Kind.PROMISE, founding_fields(founding)]
        case Form(founding):
            fields = [_Kind.FORM, founding_fields(founding)]
        case Prepare(cluster, voter):
            fields = [_Kind.PREPARE, cluster, voter]
        case Retire(cluster, voter, index):
            fields = [_Kind.RETIRE, cluster, voter, index]
    packed: bytes = msgpack.packb([_VERSION, *fields])
    return packed


def decode_request(data: bytes) -> Request:
    """The request that has these bytes.

    Raises:
        ValueError: for other bytes.
    """
    match _unpack(data):
        case [1, _Kind.ASK]:
            return Ask()
        case [1, _Kind.PROMISE, founding]:
            return Promise(parse_founding(founding))
        case [1, _Kind.FORM, founding]:
            return Form(parse_founding(founding))
        case [1, _Kind.PREPARE, cluster, voter]:
            return Prepare(_uuid(cluster), _uuid(voter))
        case [1, _Kind.RETIRE, cluster, voter, int(index)] if 0 <= index <= _MAX_INT:
            return Retire(_uuid(cluster), _uuid(voter), index)
    raise ValueError("not a request")


def encode_reply(reply: Reply) -> bytes:
    """The bytes of ``reply``."""
    packed: bytes = msgpack.packb(
        [
            _VERSION,
            reply.done,
            reply.reason,
            reply.order,
            reply.id,
            reply.address,
            reply.cluster,
            list(reply.former),
            None if reply.blocking is None else founding_fields(reply.blocking),
            reply.never,
        ]
    )
    return packed


def decode_reply(data: bytes) -> Reply:
    """The reply that has these bytes.

    Raises:
        ValueError: for other bytes.
    """
    match _unpack(data):
        case [1, bool(done), str(why), int(order), str(me), str(address), *rest]:
            match rest:
                case [cluster, list(former), blocking, bool(never)]:
                    return Reply(
                        done,
                        why,
                        order,
                        me,
                        address,
                        None if cluster is None else _uuid(cluster),
                        tuple(map(_uuid, former)),
                        None if blocking is None else parse_founding(blocking),
                        never,
                    )
    raise ValueError("not a reply")


def _unpack(data: bytes) -> object:
    if len(data) > MAX_BYTES:
        raise ValueError("too long")
    try:
        return msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError("not MessagePack") from error


def _uuid(value: object) -> str:
    if not isinstance(value, str) or str(UUID(value)) != value:
        raise ValueError("not a UUID")
    return value
