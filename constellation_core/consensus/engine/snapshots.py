"""Snapshots: one file that stands for the log up to an index, whole and verified or not used.

``magic | length of the head | head (MessagePack) | state | SHA-256 of all before``. The head
names the cluster, the last two entries that the state includes (PySyncObj's log begins with
them), and the voters as of that index.

:class:`SnapshotStore` has the methods that PySyncObj calls on its own serializer, among them
those that send a snapshot in pieces to a voter that is far behind. What arrives is verified
before it gets the name of a snapshot; nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgpack

from constellation_core.consensus.engine.commands import Entry, check_command, parse_voter
from constellation_core.consensus.files import FaultPoint, no_faults, replace_file
from constellation_core.consensus.interface import Corrupt, Voter

_MAGIC = b"CNSTSNP1"
_LENGTH = struct.Struct("<I")
_MAX_HEAD = 1 << 20
MAX_SNAPSHOT = 64 * 1024 * 1024
"""Bytes of a snapshot that a voter accepts from another."""

CHUNK = 64 * 1024
_MAX_BACKLOG = 2 * 1024 * 1024
_STALLED = 5.0

# PySyncObj's SERIALIZER_STATE.
_IDLE, _BUSY, _DONE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after the entry ``last``.

    Attributes:
        cluster: the group.
        previous: the entry before ``last``.
        last: the last entry whose effect is in ``state``.
        voters: the configuration as of ``last``.
        state: what the state machine gave.
    """

    cluster: UUID
    previous: Entry
    last: Entry
    voters: tuple[Voter, ...]
    state: bytes

    @property
    def index(self) -> int:
        """The index of the last entry that it includes."""
        return self.last[1]

    @property
    def term(self) -> int:
        """The term of that entry."""
        return self.last[2]


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The file's content."""
    voters = [[voter.id, voter.address] for voter in snapshot.voters]
    head: bytes = msgpack.packb(
        [snapshot.cluster.bytes, list(snapshot.previous), list(snapshot.last), voters]
    )
    body = b"".join((_MAGIC, _LENGTH.pack(len(head)), head, snapshot.state))
    return body + hashlib.sha256(body).digest()


def decode_snapshot(data: bytes, cluster: UUID) -> Snapshot:
    """The snapshot in a file's content.

    Raises:
        ValueError: it is damaged, not a snapshot, or another cluster's.
    """
    body, digest = data[:-32], data[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the checksum does not fit")
    if body[:8] != _MAGIC:
        raise ValueError("not a snapshot of this version")
    (length,) = _LENGTH.unpack_from(body, 8)
    start = 8 + _LENGTH.size
    if length > min(_MAX_HEAD, len(body) - start):
        raise ValueError("the head is too long")
    try:
        head = msgpack.unpackb(body[start : start + length])
        whose, previous, last, voters = head
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("the head makes no sense") from error
    if whose != cluster.bytes:
        raise ValueError("it is another cluster's")
    first, second = _entry(previous), _entry(last)
    if second[1] != first[1] + 1 or second[2] < first[2] or not isinstance(voters, list):
        raise ValueError("the head makes no sense")
    return Snapshot(cluster, first, second, tuple(map(parse_voter, voters)), body[start + length :])


def read_snapshot(path: Path, cluster: UUID) -> Snapshot | None:
    """The snapshot on disk, or ``None`` when there is none.

    Raises:
        Corrupt: it cannot be trusted.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return decode_snapshot(data, cluster)
    except ValueError as error:
        raise Corrupt(f"{path} cannot be used: {error}") from error


def write_snapshot(path: Path, data: bytes, faults: FaultPoint = no_faults) -> None:
    """Make ``data`` the snapshot on disk, durably."""
    replace_file(path, data, faults, "snapshot")


class SnapshotStore:
    """Takes, sends and receives snapshots, on the engine's thread.

    Args:
        path: the file.
        cluster: the group whose snapshots it accepts.
        take: gives the snapshot that ends with the given two entries.
        wanted: whether a received snapshot would be a step forward.
        backlog: bytes that wait to be sent to a voter.
        patient: whether the log may grow a little longer.
        clock: seconds.
        faults: fault points, for tests.
    """

    def __init__(
        self,
        path: Path,
        cluster: UUID,
        *,
        take: Callable[[Entry, Entry], Snapshot],
        wanted: Callable[[Snapshot], bool],
        backlog: Callable[[str], int],
        patient: Callable[[], bool],
        clock: Callable[[], float],
        faults: FaultPoint = no_faults,
    ) -> None:
        self._path = path
        self._cluster = cluster
        self._take = take
        self._wanted = wanted
        self._backlog = backlog
        self._patient = patient
        self._clock = clock
        self._faults = faults
        self._state = _IDLE
        self._taken_at: int | None = None
        self._sending: dict[Any, tuple[bytes, int]] = {}
        self._sent_at = clock()
        self._receiving: bytearray | None = None
        self.received: Snapshot | None = None
        """What arrived last and is verified and on disk."""

    # What PySyncObj calls, under its names.

    def checkSerializing(self) -> tuple[int, int | None]:
        """How taking a snapshot went, told once, and the first index that the log must keep.

        While one is being sent, none is taken: the log must go on where the one that is sent
        ends, or the receiver would have to begin anew, and under load never come to an end.
        """
        state, self._state = self._state, _IDLE
        sends = self._sending and self._clock() - self._sent_at < _STALLED
        if state == _IDLE and sends and self._patient():
            return _BUSY, None
        return state, self._taken_at

    def serialize(self, data: tuple[Any, Entry, Entry, Any], dump_id: int) -> None:
        """Take a snapshot and write it.

        Raises:
            OSError: it could not be written; the voter halts, as after any failed write.
        """
        _, last, previous, _ = data
        write_snapshot(self._path, encode_snapshot(self._take(previous, last)), self._faults)
        self._sending.clear()
        self._taken_at = dump_id
        self._state = _DONE

    def getTransmissionData(self, node: Any) -> tuple[bytes, bool, bool] | None:
        """The next piece for ``node``, whether it is the first, whether all was sent before it.

        ``None`` while enough waits to be sent: the snapshot is not to fill the memory.
        """
        if self._backlog(str(node.id)) > _MAX_BACKLOG:
            return None
        self._sent_at = self._clock()
        data, offset = self._sending.get(node) or (self._path.read_bytes(), 0)
        piece = data[offset : offset + CHUNK]
        if piece:
            self._sending[node] = (data, offset + len(piece))
        else:
            self._sending.pop(node, None)
        return piece, offset == 0, not piece

    def setTransmissionData(self, data: tuple[bytes, bool, bool] | None) -> bool:
        """Take in a piece; true when that made a whole, valid and wanted snapshot."""
        if data is None:
            return False
        piece, first, last = data
        if first:
            self._receiving = bytearray()
        if self._receiving is None:
            return False
        self._receiving += piece
        if len(self._receiving) > MAX_SNAPSHOT:
            self._receiving = None
            return False
        if not last:
            return False
        whole, self._receiving = bytes(self._receiving), None
        try:
            snapshot = decode_snapshot(whole, self._cluster)
        except ValueError:
            # The leader sends it anew when the log does not go on from there.
            return False
        if not self._wanted(snapshot):
            return False
        write_snapshot(self._path, whole, self._faults)
        self._sending.clear()
        self.received = snapshot
        return True

    def cancelTransmisstion(self, node: Any) -> None:
        """Begin anew with ``node`` (the library's spelling)."""
        self._sending.pop(node, None)


def _entry(fields: object) -> Entry:
    if not (isinstance(fields, list) and len(fields) == 3):
        raise ValueError("not an entry")
    command, index, term = fields
    if not (isinstance(command, bytes) and type(index) is int and type(term) is int):
        raise ValueError("not an entry")
    if not (0 <= index < 1 << 63 and 0 <= term < 1 << 63):
        raise ValueError("not an entry")
    check_command(command)
    return command, index, term
