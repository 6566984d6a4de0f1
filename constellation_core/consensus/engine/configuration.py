"""Who the voters are: a function of the snapshot and of the log behind it, and of nothing else.

A configuration counts from the moment its entry is in the log, committed or not, and no longer
when the entry is overwritten (Ongaro's dissertation, section 4.1). PySyncObj forgets
uncommitted ones at a restart, and puts uncommitted ones into snapshots.
"""

from __future__ import annotations

import math

from constellation_core.consensus.engine.commands import Change, parse_change
from constellation_core.consensus.engine.guard import check_change, voters_after
from constellation_core.consensus.engine.journal import Journal
from constellation_core.consensus.engine.snapshots import Snapshot
from constellation_core.consensus.interface import Voter


class Configuration:
    """The voters as this voter's disk tells them.

    Args:
        me: the id of this voter.
        journal: the log.
        snapshot: what stands for the log before it; ``None`` when waiting to join.
    """

    def __init__(self, me: str, journal: Journal, snapshot: Snapshot | None) -> None:
        self._me = me
        self._journal = journal
        self._since = 0
        self._base: tuple[Voter, ...] = ()
        self._changes: tuple[int, ...] = ()
        self._latest: tuple[Voter, ...] | None = None
        if snapshot is not None:
            self.rebase(snapshot.index, snapshot.voters)

    @property
    def since(self) -> int:
        """The index of the snapshot; 0 without one."""
        return self._since

    def rebase(self, index: int, voters: tuple[Voter, ...]) -> None:
        """Another snapshot stands for the log up to ``index``."""
        self._since, self._base, self._latest = index, voters, None

    def voters(self) -> tuple[Voter, ...]:
        """The latest configuration; the same object as long as nothing changes."""
        if self._latest is None or self._changes is not self._journal.changes:
            self._changes = self._journal.changes
            self._latest = self.voters_at(math.inf)
        return self._latest

    def voters_at(self, until: float) -> tuple[Voter, ...]:
        """The configuration as of an index."""
        changes = []
        for index in self._journal.changes:
            entry = self._journal.entry(index)
            if self._since < index <= until and entry is not None:
                change = parse_change(entry[0])
                if change is not None:
                    changes.append(change)
        return voters_after(self._base, changes)

    def includes_me(self) -> bool:
        """Whether this voter is one."""
        return any(voter.id == self._me for voter in self.voters())

    def pending(self, committed: int) -> bool:
        """Whether the latest change is not committed."""
        changes = self._journal.changes
        return bool(changes) and changes[-1] > committed

    def check(self, change: Change, *, committed: int, own_term_applied: bool) -> None:
        """Refuse a change that a leader must not put into the log now.

        Raises:
            MembershipRefused: with the reason.
        """
        check_change(
            change,
            self.voters(),
            me=self._me,
            pending=self.pending(committed),
            own_term_applied=own_term_applied,
        )
