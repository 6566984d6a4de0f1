"""A voter's data directory: made once, opened and cross-checked at every start.

Snapshot and journal are two files, each atomic by itself, and a crash may come between them.
What can be found then, and what is done:

====================================  ==================================================
the journal contains the snapshot's   the normal case: what precedes the snapshot is
last entry, with the same term        dropped, what follows is kept
it ends before, or has another        a snapshot came from the leader, and the crash before
term there                            the journal was reset: it is reset now
it begins after the snapshot          entries are missing: refused
there is no snapshot                  only in a directory that was made to join and has
                                      not been sent one; else refused
====================================  ==================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from constellation_core.consensus.engine.commands import NO_OP_COMMAND, Entry
from constellation_core.consensus.engine.identity import (
    DirectoryLock,
    Identity,
    read_identity,
    write_identity,
)
from constellation_core.consensus.engine.journal import Journal, write_journal
from constellation_core.consensus.engine.snapshots import (
    Snapshot,
    encode_snapshot,
    read_snapshot,
    write_snapshot,
)
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import Corrupt, Unavailable, Voter

_EMPTY: Entry = (NO_OP_COMMAND, 0, 0)
_GENESIS: tuple[Entry, Entry] = ((NO_OP_COMMAND, 1, 0), (NO_OP_COMMAND, 2, 0))


@dataclass(frozen=True, slots=True)
class Paths:
    """The files in a voter's directory; ``generation`` as in :class:`~.identity.Identity`."""

    directory: Path
    generation: int = 0

    @property
    def identity(self) -> Path:
        """Who the voter is."""
        return self.directory / "identity"

    @property
    def journal(self) -> Path:
        """Term, vote and entries."""
        return self.directory / f"journal{self._suffix}"

    @property
    def snapshot(self) -> Path:
        """The state that stands for older entries."""
        return self.directory / f"snapshot{self._suffix}"

    @property
    def lock(self) -> Path:
        """Held by the process that uses the directory."""
        return self.directory / "lock"

    @property
    def _suffix(self) -> str:
        return f".{self.generation}" if self.generation else ""


@dataclass(frozen=True, slots=True)
class Storage:
    """An opened directory. ``snapshot`` is ``None`` as long as the voter only waits to join."""

    paths: Paths
    identity: Identity
    journal: Journal
    snapshot: Snapshot | None
    lock: DirectoryLock

    def close(self) -> None:
        """Close the journal, and let others use the directory."""
        self.journal.close()
        self.lock.release()


def create(
    directory: Path,
    identity: Identity,
    voters: Sequence[Voter] | None,
    state: bytes,
    faults: FaultPoint = no_faults,
) -> None:
    """Make a voter's directory.

    Args:
        directory: exists, and holds no voter's data.
        identity: the voter's; its UUID must be new, whatever name the machine has.
        voters: who forms a new group, the same list on all of them; ``None`` to join one.
        state: the empty state machine's snapshot; unused when joining.
        faults: fault points, for tests.

    Raises:
        Unavailable: the directory is a voter's already.
        ValueError: the voter is not among those that form the group.
    """
    paths = Paths(directory)
    if paths.identity.exists():
        raise Unavailable(f"{directory} is a voter's already")
    # Left from an attempt that did not come to its end: nobody was ever told of it.
    paths.snapshot.unlink(missing_ok=True)
    if voters is None:
        entries: Sequence[Entry] = (_EMPTY,)
    else:
        if identity.id not in {voter.id for voter in voters}:
            raise ValueError("a voter can only form a group that it is part of")
        genesis = Snapshot(identity.cluster, *_GENESIS, tuple(sorted(voters)), state)
        write_snapshot(paths.snapshot, encode_snapshot(genesis), faults)
        entries = _GENESIS
    write_journal(paths.journal, identity, entries, faults)
    write_identity(paths.identity, identity, faults)


def open_storage(
    directory: Path,
    *,
    faults: FaultPoint = no_faults,
    datasync: Callable[[int], None] | None = None,
    reserve: int = 0,
) -> Storage:
    """Open a directory that :func:`create` made, and check it.

    Args:
        directory: the voter's.
        faults: fault points, for tests.
        datasync: makes an open file durable; for tests.
        reserve: see :class:`.journal.Journal`.

    Raises:
        Corrupt: something in it cannot be trusted.
        Unavailable: another process uses it, or it was never set up.
    """
    if read_identity(Paths(directory).identity) is None:
        raise Unavailable(f"{directory} is not a voter's")
    lock = DirectoryLock(Paths(directory).lock)
    try:
        # Read under the lock: a recovery changes it.
        identity = read_identity(Paths(directory).identity)
        if identity is None:
            raise Corrupt(f"{directory} has lost its identity")
        paths = Paths(directory, identity.generation)
        snapshot = read_snapshot(paths.snapshot, identity.cluster)
        options = {} if datasync is None else {"datasync": datasync}
        journal = Journal(paths.journal, identity, faults=faults, reserve=reserve, **options)
        try:
            _align(journal, snapshot)
        except BaseException:
            journal.close()
            raise
    except BaseException:
        lock.release()
        raise
    return Storage(paths, identity, journal, snapshot, lock)


def align(journal: Journal, snapshot: Snapshot) -> None:
    """Make the journal begin with the snapshot's two entries, and keep what rightly follows."""
    last = journal.entry(snapshot.index)
    kept = following(journal[:], snapshot)
    if journal[0] != snapshot.previous or last is None or last[2] != snapshot.term:
        journal.reset([snapshot.previous, snapshot.last, *kept])


def following(entries: Sequence[Entry], snapshot: Snapshot) -> list[Entry]:
    """Those of a log's entries that rightly follow the snapshot."""
    at = snapshot.index - entries[0][1] if entries else -1
    if 0 <= at < len(entries) and entries[at][2] == snapshot.term:
        return list(entries[at + 1 :])
    return []


def _align(journal: Journal, snapshot: Snapshot | None) -> None:
    first = journal[0][1]
    if snapshot is None:
        if first != 0 or len(journal) > 1:
            raise Corrupt("the snapshot is missing")
    elif first >= snapshot.index:
        raise Corrupt(f"the journal begins at {first}, after the snapshot of {snapshot.index}")
    else:
        align(journal, snapshot)
