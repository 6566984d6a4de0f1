"""A voter's directory is read as it lies, whatever is wrong with it, and never changed."""

from __future__ import annotations

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
from constellation_core.consensus.engine.identity import Identity, write_identity
from constellation_core.consensus.engine.inspection import inspect
from constellation_core.consensus.engine.journal import Journal, write_journal
from constellation_core.consensus.engine.snapshots import (
    Snapshot,
    encode_snapshot,
    write_snapshot,
)
from constellation_core.consensus.engine.storage import Paths, create, open_storage
from constellation_core.consensus.interface import Corrupt, Voter

ME = Identity(UUID(int=1), UUID(int=2))
VOTERS = (Voter(ME.id, "127.0.0.1:7001"), Voter(str(UUID(int=3)), "[::1]:7002"))
THIRD = Voter(str(UUID(int=4)), "127.0.0.1:7003")


def filled(path: Path) -> Path:
    """A voter with a log of 3 to 8 behind its first snapshot, of which 7 and 8 are uncommitted."""
    create(path, ME, VOTERS, b"state")
    journal = Journal(path / "journal", ME)
    for index in range(3, 9):
        command = change_command(Change("add", THIRD)) if index == 8 else apply_command(b"x")
        journal.add(command, index, 1 + index // 5)
        journal.setRaftCommitIndex(min(index, 6))
        journal.sync()
    journal.setCurrentTerm(5, THIRD.id)
    journal.sync()
    journal.close()
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


def test_what_a_voter_knows_can_be_read(tmp_path: Path) -> None:
    found = inspect(filled(tmp_path))
    assert found.identity == ME
    assert found.last == (2, 8)
    assert found.term == 5
    assert found.commit_index == 6
    assert [index for _, index, _ in found.entries] == [3, 4, 5, 6, 7, 8]
    assert found.voters == (*VOTERS, THIRD)
    assert found.change_pending
    assert not found.in_use
    assert found.problems == ()
    document = found.document()
    assert document["last_index"] == 8
    assert document["voters"][2] == {"id": THIRD.id, "address": THIRD.address}


def test_it_agrees_with_what_a_starting_voter_reads(tmp_path: Path) -> None:
    filled(tmp_path)
    found = inspect(tmp_path)
    storage = open_storage(tmp_path)
    assert tuple(storage.journal[2:]) == found.entries
    assert storage.snapshot == found.snapshot
    assert storage.journal.getCurrentTerm() == found.term
    assert inspect(tmp_path).in_use
    storage.close()
    assert not inspect(tmp_path).in_use


def test_a_directory_without_a_voter_is_no_problem(tmp_path: Path) -> None:
    found = inspect(tmp_path)
    assert found.identity is None
    assert found.problems == ()
    assert inspect(tmp_path / "missing").document()["voter"] is None


def test_one_that_waits_to_join_is_no_problem(tmp_path: Path) -> None:
    create(tmp_path, ME, None, b"")
    found = inspect(tmp_path)
    assert found.snapshot is None
    assert found.last == (0, 0)
    assert found.problems == ()


def test_a_torn_tail_is_no_problem_and_is_left_where_it_is(tmp_path: Path) -> None:
    filled(tmp_path)
    with (tmp_path / "journal").open("ab") as file:
        file.write(b"\x30\0\0\0half a record")
    before = contents(tmp_path)
    found = inspect(tmp_path)
    assert found.last == (2, 8)
    assert found.problems == ()
    assert contents(tmp_path) == before


def test_what_stands_before_the_damage_can_be_read(tmp_path: Path) -> None:
    filled(tmp_path)
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "journal").write_bytes(data)
    found = inspect(tmp_path)
    assert len(found.problems) == 1
    assert "is damaged at byte" in found.problems[0]
    assert 0 < len(found.entries) < 6
    assert found.commit_index <= found.last[1]


def test_without_a_sound_snapshot_there_is_no_state(tmp_path: Path) -> None:
    filled(tmp_path)
    data = bytearray((tmp_path / "snapshot").read_bytes())
    data[-1] ^= 1
    (tmp_path / "snapshot").write_bytes(data)
    found = inspect(tmp_path)
    assert found.snapshot is None
    assert found.entries == ()
    assert found.last == (0, 0)
    assert found.term == 5
    assert "checksum" in found.problems[0]
    (tmp_path / "snapshot").unlink()
    assert inspect(tmp_path).problems == ("the snapshot is missing",)


def test_a_gap_between_snapshot_and_journal_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    entries: list[Entry] = [(apply_command(b"x"), index, 2) for index in (5, 6)]
    write_journal(tmp_path / "journal", ME, entries)
    assert inspect(tmp_path).problems == ("the journal begins at 5, after the snapshot of 2",)


def test_a_snapshot_from_a_leader_that_is_ahead_of_the_journal_stands_alone(
    tmp_path: Path,
) -> None:
    filled(tmp_path)
    previous, last = (apply_command(b"y"), 8, 9), (apply_command(b"y"), 9, 9)
    ahead = Snapshot(ME.cluster, previous, last, VOTERS, b"later")
    write_snapshot(tmp_path / "snapshot", encode_snapshot(ahead))
    found = inspect(tmp_path)
    assert found.last == (9, 9)
    assert found.commit_index == 9
    assert found.entries == ()
    assert found.problems == ()


@pytest.mark.parametrize("name", ["identity", "journal", "snapshot"])
@given(st.data())
def test_nothing_that_lies_there_makes_it_fail(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = filled(tmp_path_factory.mktemp("voter"))
    content = (path / name).read_bytes()
    at = data.draw(st.integers(0, len(content)))
    until = data.draw(st.integers(at, len(content)))
    (path / name).write_bytes(content[:at] + data.draw(st.binary(max_size=30)) + content[until:])
    before = contents(path)
    found = inspect(path)
    assert contents(path) == before
    found.document()
    # A voter starts exactly where nothing is found to be wrong.
    try:
        open_storage(path).close()
    except Corrupt:
        assert found.problems
    else:
        assert not found.problems


def test_an_identity_of_a_later_generation_names_other_files(tmp_path: Path) -> None:
    filled(tmp_path)
    later = Identity(UUID(int=8), UUID(int=9), 1)
    write_identity(tmp_path / "identity", later)
    found = inspect(tmp_path)
    assert found.identity == later
    assert found.paths == Paths(tmp_path, 1)
    assert "journal.1 is missing" in found.problems[0]
