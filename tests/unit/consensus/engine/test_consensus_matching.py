"""What a follower drops, compared with the Raft paper's rules on lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.engine.commands import Entry
from constellation_core.consensus.engine.matching import DivergedError, Handover, match


class Log:
    """A follower's log, as the library changes it."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    def __getitem__(self, position: int) -> Entry:
        return self.entries[position]

    def entry(self, index: int) -> Entry | None:
        position = index - self.entries[0][1]
        return self.entries[position] if 0 <= position < len(self.entries) else None

    def library(self, given: Handover) -> tuple[bool, int]:
        """What PySyncObj does with a message: whether it accepts it, and the index it asks for."""
        before = self.entry(given.previous)
        if before is None:
            return False, self.entries[-1][1] + 1
        if before[2] != given.previous_term:
            return False, given.previous
        del self.entries[given.previous - self.entries[0][1] + 1 :]
        self.entries.extend(given.entries)
        return True, (self.entries[-1][1] if given.entries else given.previous) + 1


def log(*terms: int, first: int = 1) -> list[Entry]:
    return [(b"\x00%d %d" % (index, term), index, term) for index, term in enumerate(terms, first)]


def follow(
    follower: Log, leader: list[Entry], previous: int, count: int, committed: int
) -> tuple[bool, int]:
    """Send entries of the leader's log; gives the follower's answer."""
    start = previous - leader[0][1]
    term = leader[start][2]
    entries = leader[start + 1 : start + 1 + count]
    given = match(follower, previous, term, entries, leader[-1][1], committed)
    assert given.commit <= leader[-1][1]
    success, index = follower.library(given)
    return success, index if given.next_index is None else given.next_index


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_heartbeat_or_a_repetition_drops_nothing(count: int) -> None:
    follower = Log(log(1, 1, 1, 1, 1))
    assert follow(follower, log(1, 1, 1, 1, 1), 1, count, 0) == (True, 2 + count)
    assert follower.entries == log(1, 1, 1, 1, 1)


def test_what_is_acknowledged_is_what_agrees_and_no_more() -> None:
    # The follower's tail is an older leader's: this leader must not count it as its own.
    follower = Log(log(1, 1, 2, 2))
    assert follow(follower, log(1, 1, 3), 1, 1, 0) == (True, 3)
    assert follower.entries == log(1, 1, 2, 2)


def test_a_conflict_is_cut_where_it_begins() -> None:
    follower = Log(log(1, 1, 2, 2))
    assert follow(follower, log(1, 1, 3), 1, 2, 0) == (True, 4)
    assert follower.entries == log(1, 1, 3)


def test_an_answer_goes_back_a_whole_term() -> None:
    follower = Log(log(1, 2, 2, 2, 2))
    assert follow(follower, log(1, 3, 3, 3, 3), 4, 1, 0) == (False, 2)


def test_what_is_committed_is_never_given_up() -> None:
    follower = Log(log(1, 1, 1))
    with pytest.raises(DivergedError):
        follow(follower, log(1, 2, 2), 1, 2, 2)
    with pytest.raises(DivergedError):
        follow(follower, log(1, 2, 2), 2, 1, 2)


def test_entries_before_the_snapshot_are_known() -> None:
    follower = Log(log(1, 1, 1, first=5))
    assert follow(follower, log(1, 1, 1, 1, 1, 1, 1, 1), 2, 6, 6) == (True, 9)
    assert follower.entries == log(1, 1, 1, 1, first=5)
    assert follow(follower, log(1, 1, 1, 1, 1, 1, 1, 1), 2, 1, 6) == (True, 4)
    assert follower.entries == log(1, 1, 1, 1, first=5)


TERMS = st.lists(st.integers(1, 4), max_size=8).map(sorted)


@given(TERMS, TERMS, TERMS, st.integers(0, 9), st.integers(0, 9), st.integers(1, 4))
def test_it_is_what_the_paper_says(
    common: list[int], mine: list[int], theirs: list[int], skip: int, count: int, first: int
) -> None:
    # Logs of one group: the same up to some index, and different terms from there on, since an
    # index and a term determine the entry and all before it.
    base = max([*common, 1])
    leader = log(*common, *(base + 2 * each for each in theirs))
    whole = log(*common, *(base + 2 * each - 1 for each in mine))
    if not leader or not whole:
        return
    # The follower's log may begin behind a snapshot of what both have.
    start = min(first, max(1, len(common)), len(whole))
    follower = Log(whole[start - 1 :])
    committed = start if common else 0
    previous = min(1 + skip, len(leader))
    answer = None
    sent = leader[previous : previous + count]
    before = list(follower.entries)
    if previous < start and not common:
        return
    answer = follow(follower, leader, previous, count, committed)
    # Figure 2 of the paper, on whole logs.
    expected = list(whole)
    agrees = previous <= len(whole) and whole[previous - 1][2] == leader[previous - 1][2]
    if not agrees:
        assert follower.entries == before
        assert not answer[0]
        assert answer[1] <= max(previous, len(whole) + 1)
        return
    for entry in sent:
        index = entry[1]
        if index <= len(expected) and expected[index - 1][2] != entry[2]:
            del expected[index - 1 :]
        if index > len(expected):
            expected.append(entry)
    assert follower.entries == expected[start - 1 :]
    assert answer == (True, previous + len(sent) + 1)
