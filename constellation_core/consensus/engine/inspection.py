"""A voter's directory as it lies on the disk: looked at, never changed, and never refused.

For people who have to decide which of several machines kept the most, and for
:mod:`.recovery`. Where a starting voter would refuse, there is a sentence in ``problems``, and
what can be trusted all the same stands beside it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constellation_core.consensus.engine.commands import Change, Entry, parse_change
from constellation_core.consensus.engine.guard import voters_after
from constellation_core.consensus.engine.identity import Identity, read_identity
from constellation_core.consensus.engine.replay import Replay, replay
from constellation_core.consensus.engine.snapshots import Snapshot, read_snapshot
from constellation_core.consensus.engine.storage import Paths, following
from constellation_core.consensus.interface import Corrupt, Voter


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a directory holds.

    Attributes:
        paths: its files.
        identity: whose it is; ``None`` when it is nobody's, or that cannot be read.
        snapshot: the state up to some entry; ``None`` when there is none that can be trusted.
        entries: those that follow the snapshot, committed or not.
        term: the highest term that the voter knew.
        commit_index: the highest index that it knew to be committed. More may have been.
        in_use: a process uses the directory at this moment, so it may have changed since.
        problems: what is wrong with it, in sentences; a voter does not start with any.
    """

    paths: Paths
    identity: Identity | None = None
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()
    term: int = 0
    commit_index: int = 0
    in_use: bool = False
    problems: tuple[str, ...] = ()

    @property
    def last(self) -> tuple[int, int]:
        """Term and index of the last entry. Of two logs of one group, the greater goes further
        (the rule by which Raft's voters vote); zeros without a snapshot."""
        if self.entries:
            _, index, term = self.entries[-1]
            return term, index
        return (self.snapshot.term, self.snapshot.index) if self.snapshot else (0, 0)

    @property
    def voters(self) -> tuple[Voter, ...]:
        """The latest configuration in the log, committed or not."""
        if self.snapshot is None:
            return ()
        return voters_after(self.snapshot.voters, [change for change, _ in self._changes()])

    @property
    def change_pending(self) -> bool:
        """Whether the latest change of the voters is not known to be committed."""
        return any(index > self.commit_index for _, index in self._changes())

    def document(self) -> Mapping[str, Any]:
        """All of it but the data, ready for JSON."""
        last_term, last_index = self.last
        return {
            "directory": str(self.paths.directory),
            "cluster": str(self.identity.cluster) if self.identity else None,
            "voter": self.identity.id if self.identity else None,
            "in_use": self.in_use,
            "term": self.term,
            "last_term": last_term,
            "last_index": last_index,
            "commit_index": self.commit_index,
            "snapshot_index": self.snapshot.index if self.snapshot else 0,
            "voters": [{"id": each.id, "address": each.address} for each in self.voters],
            "change_pending": self.change_pending,
            "problems": list(self.problems),
        }

    def _changes(self) -> list[tuple[Change, int]]:
        found = ((parse_change(command), index) for command, index, _ in self.entries)
        return [(change, index) for change, index in found if change is not None]


def inspect(directory: Path) -> Inspection:
    """Look at a voter's directory.

    Raises:
        OSError: the files cannot be read, for instance because they are another user's.
    """
    try:
        identity = read_identity(Paths(directory).identity)
    except Corrupt as error:
        return Inspection(Paths(directory), problems=(str(error),))
    if identity is None:
        return Inspection(Paths(directory))
    paths = Paths(directory, identity.generation)
    in_use = _in_use(paths.lock)
    problems = []
    # In this order: a voter that runs writes a snapshot before it trims its journal.
    journal = _read_journal(paths.journal, identity)
    try:
        snapshot = read_snapshot(paths.snapshot, identity.cluster)
    except Corrupt as error:
        snapshot = None
        problems.append(str(error))
    else:
        problems += _gap(journal, snapshot)
    if journal.problem is not None:
        problems.append(f"{paths.journal} {journal.problem}")
    entries = () if snapshot is None else tuple(following(journal.entries, snapshot))
    since = snapshot.index if snapshot else 0
    return Inspection(
        paths,
        identity,
        snapshot,
        entries,
        max(journal.term, entries[-1][2] if entries else 0, snapshot.term if snapshot else 0),
        min(max(since, journal.commit), since + len(entries)),
        in_use,
        tuple(problems),
    )


def _read_journal(path: Path, identity: Identity) -> Replay:
    try:
        return replay(path.read_bytes(), identity)
    except FileNotFoundError:
        return Replay(problem="is missing")


def _gap(journal: Replay, snapshot: Snapshot | None) -> list[str]:
    """What is missing between a snapshot and a journal; see :mod:`.storage`."""
    if not journal.entries:
        return []
    first, last = journal.entries[0][1], journal.entries[-1][1]
    if snapshot is None:
        return ["the snapshot is missing"] if (first, last) != (0, 0) else []
    if first >= snapshot.index:
        return [f"the journal begins at {first}, after the snapshot of {snapshot.index}"]
    return []


def _in_use(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
