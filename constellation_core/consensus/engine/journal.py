"""The journal: term, vote and log entries, durable before anybody hears of them.

Append-only. What is added waits in memory until :meth:`Journal.sync` writes it and calls
``fdatasync``: the transport does so before it sends, so one sync covers all that came in one
turn of the loop (group commit). A failed write or sync is final, because the kernel may have
dropped the pages ("fsyncgate"): the caller must halt, and the file is read anew at the next
start. Trimming and resetting write a new file and rename it.

Room for what will come may be reserved, since a file that keeps its size is synced faster: zeros
then follow the last record, and are no record themselves.

:class:`Journal` has the methods and names that PySyncObj calls on its own journal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constellation_core.consensus.engine import records
from constellation_core.consensus.engine.commands import MEMBERSHIP, Entry
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.replay import replay, write_header
from constellation_core.consensus.files import FaultPoint, no_faults, replace_file, write_all
from constellation_core.consensus.interface import Corrupt

RESERVE = 256 * 1024
"""Bytes, in production."""


class Journal:
    """An open journal. Positions are those of a list; indexes are Raft's.

    Args:
        path: the file; it must exist, see :func:`write_journal`.
        identity: whose journal it must be.
        faults: fault points, for tests.
        datasync: makes an open file durable; for tests.
        reserve: bytes of room to have.

    Raises:
        Corrupt: durable records cannot be read, or it is not this voter's journal.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        *,
        faults: FaultPoint = no_faults,
        datasync: Callable[[int], None] = os.fdatasync,
        reserve: int = 0,
    ) -> None:
        self._path = path
        self._identity = identity
        self._faults = faults
        self._datasync = datasync
        self._reserve = reserve
        self._entries: list[Entry] = []
        self._changes: tuple[int, ...] = ()
        self._term = 0
        self._voted_for: str | None = None
        self._commit = 0
        self._pending = bytearray()
        self._fd = -1
        self._end = 0
        self._room = 0
        self._load()

    # What PySyncObj calls, under its names.

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry; durable after the next :meth:`sync`."""
        self._append(records.ENTRY, records.numbers(idx, term) + command)
        self._remember((command, idx, term))

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop the entries from this position on."""
        if entryFrom < len(self._entries):
            index = self._entries[entryFrom][1]
            self._append(records.TRUNCATE, records.numbers(index))
            self._forget(index)

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Drop the entries before this position, durably."""
        self.reset(self._entries[entryTo:])

    def clear(self) -> None:
        """Not offered: a log is never empty."""
        raise NotImplementedError

    def __getitem__(self, item: Any) -> Any:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Remember term and vote; durable after the next :meth:`sync`."""
        self._term, self._voted_for = term, votedForNodeId
        self._append(records.TERM, _term_payload(term, votedForNodeId))

    def getCurrentTerm(self) -> int:
        """The term, at least that of the last entry."""
        return max(self._term, self._entries[-1][2])

    def getVotedForNodeId(self) -> str | None:
        """Who has this voter's vote in this term."""
        return self._voted_for if self._term >= self._entries[-1][2] else None

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Remember what is committed; it is written with the next sync, as it is only a help."""
        self._commit = raftCommitIndex

    def getRaftCommitIndex(self) -> int:
        """What was known to be committed."""
        return min(self._commit, self._entries[-1][1])

    def onOneSecondTimer(self) -> None:
        """Nothing happens by the clock."""

    def _destroy(self) -> None:
        """PySyncObj closes its journal; who made this one closes it."""

    # What this engine calls.

    @property
    def size(self) -> int:
        """Bytes of the file, without what is only reserved."""
        return self._end

    @property
    def changes(self) -> tuple[int, ...]:
        """The indexes of the changes of the voters; another tuple whenever one comes or goes."""
        return self._changes

    def entry(self, index: int) -> Entry | None:
        """The entry with this index, or ``None``."""
        position = index - self._entries[0][1]
        return self._entries[position] if 0 <= position < len(self._entries) else None

    def sync(self) -> None:
        """Make all that was added durable, with one ``fdatasync``; no-op without additions.

        Raises:
            OSError: it could not be done; the journal must not be used any more.
        """
        if not self._pending:
            return
        data = bytes(self._pending)
        self._pending.clear()
        self._make_room()
        write_all(self._fd, data, self._faults, "journal.append.half")
        self._faults("journal.append.unsynced")
        self._datasync(self._fd)
        self._faults("journal.append.synced")
        # The mark need not be durable: without it a damaged last record counts as torn.
        durable = self._end
        self._append(records.MARK, records.mark(durable, max(0, self._last - self._commit)))
        mark = bytes(self._pending)
        self._pending.clear()
        write_all(self._fd, mark)

    def reset(self, entries: Sequence[Entry]) -> None:
        """Make ``entries`` the log, durably; term and vote stay."""
        entries = list(entries)
        data = _file(self._identity, entries, self.getCurrentTerm(), self.getVotedForNodeId())
        replace_file(self._path, data, self._faults, "journal.trim")
        self.close()
        self._load()

    def close(self) -> None:
        """Close the file; what was not synced is forgotten. Idempotent."""
        self._pending.clear()
        if self._fd >= 0:
            if self._reserve:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR))
            os.close(self._fd)
            self._fd = -1

    def _make_room(self) -> None:
        if self._reserve and self._end > self._room:
            # Without it the file grows with each write; a full disk then shows when it matters.
            with contextlib.suppress(OSError):
                length = self._end - self._room + self._reserve
                os.posix_fallocate(self._fd, self._room, length)
            self._room = self._end + self._reserve

    @property
    def _last(self) -> int:
        return self._entries[-1][1]

    def _append(self, kind: int, payload: bytes) -> None:
        record = records.encode(self._end, kind, payload)
        self._pending += record
        self._end += len(record)

    def _remember(self, entry: Entry) -> None:
        if entry[0][0] == MEMBERSHIP:
            self._changes = (*self._changes, entry[1])
        self._entries.append(entry)

    def _forget(self, index: int) -> None:
        del self._entries[max(0, index - self._entries[0][1]) :]
        self._changes = tuple(each for each in self._changes if each < index)

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            raise Corrupt(f"{self._path} is missing") from None
        found = replay(data, self._identity)
        if found.problem is not None:
            raise Corrupt(f"{self._path} {found.problem}")
        self._entries, self._changes = found.entries, tuple(found.changes)
        self._term, self._voted_for = found.term, found.voted_for
        self._commit = max(self._commit, found.commit)
        self._end = self._room = found.end
        self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        os.lseek(self._fd, found.end, os.SEEK_SET)
        if found.end < len(data):
            os.ftruncate(self._fd, found.end)
            self._datasync(self._fd)


def write_journal(
    path: Path, identity: Identity, entries: Sequence[Entry], faults: FaultPoint = no_faults
) -> None:
    """Make a new journal with these entries, durably."""
    replace_file(path, _file(identity, entries, 0, None), faults, "journal.trim")


def _file(identity: Identity, entries: Sequence[Entry], term: int, voted_for: str | None) -> bytes:
    data = bytearray(write_header(identity))
    data += records.encode(len(data), records.TERM, _term_payload(term, voted_for))
    for command, index, each_term in entries:
        payload = records.numbers(index, each_term) + command
        data += records.encode(len(data), records.ENTRY, payload)
    data += records.encode(len(data), records.MARK, records.mark(len(data), 0xFFFFFFFF))
    return bytes(data)


def _term_payload(term: int, voted_for: str | None) -> bytes:
    return records.numbers(term) + (voted_for or "").encode()
