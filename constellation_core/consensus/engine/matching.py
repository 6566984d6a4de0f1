"""What a follower does with a leader's entries: it never drops one that the leader has.

PySyncObj drops everything behind ``prevLogIdx`` before it appends, also for a heartbeat and for
entries that it already holds. What it drops may be acknowledged: should the voter stop, or lend
its vote, before the leader sends the same again, the acknowledged entry is gone. Here the
message is cut to what is new before the library sees it, as the Raft paper has it in section
5.3 (figure 2, AppendEntries, steps 3 to 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from constellation_core.consensus.engine.commands import Entry


class Log(Protocol):
    """What is asked of the follower's log; its first entry is committed."""

    def __getitem__(self, position: int, /) -> Entry: ...

    def entry(self, index: int, /) -> Entry | None:
        """The entry with this index, or ``None``."""
        ...


class DivergedError(Exception):
    """The leader contradicts what is committed here: never follow it."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What the library is given instead of the message, and what it shall answer.

    Attributes:
        previous: index of the entry that the new ones follow.
        previous_term: its term.
        entries: what is new. When it begins within the log, the log is cut there.
        commit: up to where the leader says that it is committed, as far as the logs agree.
        next_index: to be told to the leader instead of the library's answer, or ``None``.
    """

    previous: int
    previous_term: int
    entries: Sequence[Entry]
    commit: int
    next_index: int | None = None


def match(
    log: Log,
    previous: int,
    previous_term: int,
    entries: Sequence[Entry],
    commit: int,
    committed: int,
) -> Handover:
    """Compare a leader's entries with the log.

    Args:
        log: the follower's.
        previous: index of the entry before ``entries`` on the leader.
        previous_term: its term.
        entries: consecutive.
        commit: the leader's commit index.
        committed: the follower's commit index.

    Raises:
        DivergedError: a committed entry would have to go.
    """
    first = log[0][1]
    last, last_term = log[-1][1:]
    if previous > last:
        # The library asks for what follows its last entry.
        return Handover(previous, previous_term, entries, commit)
    if previous >= first:
        here = log.entry(previous)
        if here is None or here[2] != previous_term:
            if previous <= committed:
                raise DivergedError(
                    f"the leader has another entry {previous}, which is committed here"
                )
            # No entry of the term that stands here can be the leader's: go back behind it,
            # one term and not one entry with each answer (section 5.3, last paragraphs).
            return Handover(previous, previous_term, (), commit, _run_start(log, previous))
    # What precedes the first entry is committed, so the leader has it too.
    agreed = previous
    for position, (_, index, term) in enumerate(entries):
        here = log.entry(index)
        if index > first and (here is None or here[2] != term):
            if here is not None and index <= committed:
                raise DivergedError(
                    f"the leader has another entry {index}, which is committed here"
                )
            before = log.entry(index - 1)
            if before is None:
                break
            return Handover(index - 1, before[2], entries[position:], commit)
        agreed = index
    # All of it is here already. Nothing is said of what the log holds beyond it.
    return Handover(last, last_term, (), min(commit, agreed), agreed + 1)


def _run_start(log: Log, index: int) -> int:
    entry = log.entry(index)
    if entry is None:
        return index
    first = log[0][1]
    term = entry[2]
    while index - 1 > first and (before := log.entry(index - 1)) is not None and before[2] == term:
        index -= 1
    return index
