"""A backup: the replicated state at some moment, in one file that is whole or refused.

``magic | length of the head | head (MessagePack) | state | SHA-256 of all before``. A backup is
no voter's directory, and cannot become one under an old name: restoring it begins a new cluster
(:mod:`.recovery`). It holds the values of all keys, so it is to be kept like them.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from dataclasses import dataclass
from uuid import UUID

import msgpack

from constellation_core.consensus.interface import ConsensusError, Engine, Role, Unavailable
from constellation_core.consensus.state import OutdatedError, ReplicatedState

_MAGIC = b"CNSTBKP1"
_LENGTH = struct.Struct("<I")
_DIGEST = 32
_MAX_HEAD = 1024
_MAX_TIME = 1 << 37
"""Seconds since 1970, in a year that calendars know."""

_PATIENCE = 2.0
"""Seconds to wait at most until all that was acknowledged is in the state."""

MAX_BACKUP = 64 * 1024 * 1024
"""Bytes; above what the state's own limits allow."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The replicated state at some moment.

    Attributes:
        cluster: the UUID of the cluster it was taken from.
        index: of an entry up to which everything is in it; a few later ones may be, too.
        at: when it was taken, in seconds since 1970 by the wall clock of the machine.
        state: what :meth:`~.state.ReplicatedState.snapshot` gave.
    """

    cluster: str
    index: int
    at: float
    state: bytes


def encode_backup(backup: Backup) -> bytes:
    """The file's content."""
    head: bytes = msgpack.packb([UUID(backup.cluster).bytes, backup.index, backup.at])
    body = b"".join((_MAGIC, _LENGTH.pack(len(head)), head, backup.state))
    return body + hashlib.sha256(body).digest()


def decode_backup(data: bytes) -> Backup:
    """The backup in a file's content. Whether the state can be read is not looked at.

    Raises:
        ValueError: it is damaged, or no backup.
    """
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if body[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a backup of this version")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the checksum does not fit: it is damaged, or not all of it is there")
    start = len(_MAGIC) + _LENGTH.size
    if len(body) < start:
        raise ValueError("the head is missing")
    (length,) = _LENGTH.unpack_from(body, len(_MAGIC))
    if length > min(_MAX_HEAD, len(body) - start):
        raise ValueError("the head is too long")
    try:
        head = msgpack.unpackb(body[start : start + length])
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError("the head makes no sense") from error
    match head:
        case [bytes(cluster), int(index), float(at)] if (
            len(cluster) == 16 and index >= 0 and 0 <= at < _MAX_TIME
        ):
            return Backup(str(UUID(bytes=cluster)), index, at, body[start + length :])
    raise ValueError("the head makes no sense")


async def take(engine: Engine, state: ReplicatedState, *, cluster: str, at: float) -> bytes:
    """A backup from a voter that runs, as a file's content.

    On the leader it holds all that was acknowledged before. On another voter, or when no
    majority answers in two seconds, it holds what this voter has: the same state, as it was a
    moment (or, without a leader, however long) ago.

    Args:
        engine: the voter's.
        state: what it drives.
        cluster: the cluster's UUID.
        at: seconds since 1970.

    Raises:
        Unavailable: the engine does not run, or has nothing yet.
    """
    role, index = engine.status.role, engine.status.applied_index
    if role is Role.JOINING:
        raise Unavailable("this voter waits to be added, and holds nothing yet")
    if role is Role.LEADER:
        with contextlib.suppress(ConsensusError):
            index = max(index, await engine.barrier(timeout=_PATIENCE))
    try:
        content = await engine.read(state.snapshot)
    except OutdatedError as error:
        raise Unavailable(str(error)) from error
    return encode_backup(Backup(cluster, index, at, content))
