"""The journal: what was synced is there after any crash, and what is damaged is never used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.engine.commands import (
    Change,
    Entry,
    apply_command,
    change_command,
)
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.journal import Journal, write_journal
from constellation_core.consensus.engine.records import numbers, parse_numbers
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import Corrupt, Voter

ME = Identity(UUID(int=1), UUID(int=2))
BASE: list[Entry] = [(b"\x01", 1, 0), (b"\x01", 2, 0)]


def made(path: Path, faults: FaultPoint = no_faults) -> Journal:
    write_journal(path, ME, BASE)
    return Journal(path, ME, faults=faults, datasync=lambda _: None)


def opened(path: Path) -> Journal:
    return Journal(path, ME, datasync=lambda _: None)


def state(journal: Journal) -> tuple[list[Entry], int, str | None]:
    return list(journal[:]), journal.getCurrentTerm(), journal.getVotedForNodeId()


def test_an_entry_that_was_synced_is_there_after_a_crash(tmp_path: Path) -> None:
    journal = made(tmp_path / "j")
    journal.add(apply_command(b"x"), 3, 1)
    journal.setCurrentTerm(4, str(UUID(int=9)))
    journal.sync()
    before = state(journal)
    journal.add(apply_command(b"lost"), 4, 4)
    journal.close()
    again = opened(tmp_path / "j")
    assert state(again) == before
    assert before[1:] == (4, str(UUID(int=9)))
    again.close()


def test_nothing_is_written_before_the_sync(tmp_path: Path) -> None:
    journal = made(tmp_path / "j")
    size = (tmp_path / "j").stat().st_size
    journal.add(apply_command(b"x"), 3, 1)
    assert (tmp_path / "j").stat().st_size == size
    journal.close()


def test_changes_of_the_voters_are_found_and_forgotten(tmp_path: Path) -> None:
    journal = made(tmp_path / "j")
    voter = Voter(str(UUID(int=5)), "127.0.0.1:1")
    journal.add(change_command(Change("add", voter)), 3, 1)
    journal.sync()
    journal.close()
    journal = opened(tmp_path / "j")
    assert list(journal.changes) == [3]
    journal.deleteEntriesFrom(2)
    assert list(journal.changes) == []
    journal.close()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(max_size=20)),
        st.tuples(st.just("cut"), st.integers(1, 6)),
        st.tuples(st.just("term"), st.integers(0, 3)),
        st.tuples(st.just("trim"), st.integers(0, 3)),
        st.tuples(st.just("sync"), st.none()),
    ),
    max_size=25,
)


@given(OPERATIONS, st.floats(0, 1), st.booleans(), st.binary(max_size=8))
def test_after_a_power_cut_the_journal_is_as_it_was_at_the_sync_or_later(
    tmp_path_factory: pytest.TempPathFactory,
    operations: list[tuple[str, object]],
    written: float,
    marked: bool,
    garbage: bytes,
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    durable = [0]
    journal = Journal(_new(path), ME, datasync=lambda _: durable.append(path.stat().st_size))
    states = [state(journal)]
    since = 0
    durable.append(path.stat().st_size)
    for name, value in operations:
        last, term = journal[-1][1], journal.getCurrentTerm()
        if name == "add":
            journal.add(apply_command(bytes(value)), last + 1, max(term, 1))  # type: ignore[call-overload]
        elif name == "cut" and len(journal) > int(value):  # type: ignore[call-overload]
            journal.deleteEntriesFrom(int(value))  # type: ignore[call-overload]
        elif name == "term":
            journal.setCurrentTerm(term + int(value), str(UUID(int=7)))  # type: ignore[call-overload]
        elif name == "trim":
            journal.deleteEntriesTo(min(int(value), len(journal) - 2))  # type: ignore[call-overload]
            since = len(states)
            durable.append(path.stat().st_size)
        elif name == "sync":
            journal.sync()
            since = len(states) - 1
        states.append(state(journal))
    # The last sync's mark is not synced itself: both its presence and its absence are possible.
    size = path.stat().st_size if marked else durable[-1]
    pending = bytes(journal._pending)
    journal.close()
    kept = path.read_bytes()[:size] + pending[: int(len(pending) * written)]
    if not marked and pending:
        kept = path.read_bytes()[:size]
    path.write_bytes(kept + garbage)
    again = opened(path)
    assert state(again) in states[since:]
    again.close()


def _new(path: Path) -> Path:
    write_journal(path, ME, BASE)
    return path


def filled(path: Path) -> list[Entry]:
    journal = made(path)
    for index in range(3, 9):
        journal.add(apply_command(b"value %d" % index), index, 1)
        if index % 2:
            journal.sync()
    journal.setCurrentTerm(3, str(UUID(int=2)))
    journal.sync()
    entries = list(journal[:])
    journal.close()
    return entries


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path: Path) -> None:
    entries = filled(tmp_path / "j")
    data = (tmp_path / "j").read_bytes()
    refused = 0
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        (tmp_path / "j").write_bytes(damaged)
        try:
            journal = opened(tmp_path / "j")
        except Corrupt:
            refused += 1
            continue
        # Only in the mark behind the last sync.
        assert state(journal) == (entries, 3, str(UUID(int=2)))
        journal.close()
    assert refused >= len(data) - 17


def test_a_file_that_is_cut_short_within_what_was_durable_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    data = (tmp_path / "j").read_bytes()
    # A hole in the middle: what follows tells that it was durable.
    for start in range(60, len(data) - 60, 7):
        (tmp_path / "j").write_bytes(data[:start] + bytes(20) + data[start + 20 :])
        with pytest.raises(Corrupt):
            opened(tmp_path / "j")


def test_a_torn_tail_is_cut_off_and_written_over(tmp_path: Path) -> None:
    entries = filled(tmp_path / "j")
    with (tmp_path / "j").open("ab") as file:
        file.write(b"\x30\x00\x00\x00half a record")
    journal = opened(tmp_path / "j")
    assert list(journal[:]) == entries
    journal.add(apply_command(b"next"), 9, 3)
    journal.sync()
    journal.close()
    again = opened(tmp_path / "j")
    assert again[-1] == (apply_command(b"next"), 9, 3)
    again.close()


def reserving(path: Path, datasync: Callable[[int], None] = lambda _: None) -> Journal:
    return Journal(path, ME, datasync=datasync, reserve=4096)


@given(st.lists(st.binary(max_size=900), max_size=12), st.integers(0, 3000), st.booleans())
def test_reserved_room_is_no_part_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes], lost: int, zeroed: bool
) -> None:
    path = _new(tmp_path_factory.mktemp("journal") / "j")
    durable: list[int] = []
    journal = reserving(path, lambda _: durable.append(journal.size))
    for index, value in enumerate(values, 3):
        journal.add(apply_command(value), index, 1)
        journal.sync()
        assert path.stat().st_size >= journal.size
    before, size = state(journal), journal.size
    # A power cut: of the last mark, which was not synced, a part is missing.
    whole = path.read_bytes()
    kept = max(durable[-1] if durable else size, size - lost)
    tail = bytes(len(whole) - kept) if zeroed else b""
    path.write_bytes(whole[:kept] + tail)
    again = reserving(path)
    assert state(again) == before
    # An orderly end gives the room back.
    again.close()
    assert path.stat().st_size == again.size
    journal.close()


def test_what_is_damaged_is_found_though_room_is_reserved(tmp_path: Path) -> None:
    _new(tmp_path / "j")
    journal = reserving(tmp_path / "j")
    for index in range(3, 9):
        journal.add(apply_command(b"value %d" % index), index, 1)
        journal.sync()
    data, size = (tmp_path / "j").read_bytes(), journal.size
    assert len(data) > size
    refused = 0
    for offset in range(size):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        (tmp_path / "j").write_bytes(damaged)
        try:
            again = reserving(tmp_path / "j")
        except Corrupt:
            refused += 1
            continue
        assert state(again) == state(journal)
        again.close()
    # All but the mark behind the last sync.
    assert refused >= size - 17
    journal.close()


def test_a_disk_without_room_to_reserve_is_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    _new(tmp_path / "j")
    journal = reserving(tmp_path / "j")
    journal.add(apply_command(b"x"), 3, 1)
    journal.sync()
    before = state(journal)
    journal.close()
    again = reserving(tmp_path / "j")
    assert state(again) == before
    again.close()


@pytest.mark.parametrize(
    "point",
    [
        "journal.append.half",
        "journal.append.unsynced",
        "journal.append.synced",
        "journal.trim.half",
        "journal.trim.unsynced",
        "journal.trim.synced",
        "journal.trim.renamed",
    ],
)
def test_a_crash_at_any_point_keeps_what_was_synced(tmp_path: Path, point: str) -> None:
    reached: list[str] = []

    def crash(name: str) -> None:
        reached.append(name)
        if name == point and len(reached) > 3:
            raise SystemExit

    journal = made(tmp_path / "j", crash)
    journal.add(apply_command(b"kept"), 3, 1)
    journal.sync()

    def go_on() -> None:
        for index in range(4, 40):
            journal.add(apply_command(b"new"), index, 1)
            journal.sync()
            journal.deleteEntriesTo(1 if index == 4 else 0)

    with pytest.raises(SystemExit):
        go_on()
    journal.close()
    again = opened(tmp_path / "j")
    assert again.entry(3) == (apply_command(b"kept"), 3, 1)
    again.close()


def test_an_error_of_the_disk_comes_out(tmp_path: Path) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    write_journal(tmp_path / "j", ME, BASE)
    journal = Journal(tmp_path / "j", ME, datasync=full)
    journal.add(apply_command(b"x"), 3, 1)
    with pytest.raises(OSError, match="No space"):
        journal.sync()
    journal.close()


def test_another_voters_journal_is_refused(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", Identity(ME.cluster, UUID(int=3)), BASE)
    with pytest.raises(Corrupt, match="another voter"):
        opened(tmp_path / "j")


def test_a_missing_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="missing"):
        opened(tmp_path / "j")


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=1, max_size=4), st.binary(max_size=9))
def test_numbers_come_back_as_they_were(values: list[int], rest: bytes) -> None:
    assert parse_numbers(numbers(*values) + rest, len(values)) == (values, rest)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_numbers_are_refused(data: bytes) -> None:
    try:
        values, _ = parse_numbers(data, 2)
    except ValueError:
        return
    assert all(value < 1 << 63 for value in values)


def test_a_renewal_of_a_lease_costs_little(tmp_path: Path) -> None:
    journal = made(tmp_path / "j")
    size = journal.size
    for index in range(3, 103):
        journal.add(apply_command(bytes(70)), index, 12)
        journal.sync()
    # At one in ten seconds, less than 1 MB a day.
    assert (journal.size - size) / 100 * 8_640 < 1_000_000
    journal.close()
