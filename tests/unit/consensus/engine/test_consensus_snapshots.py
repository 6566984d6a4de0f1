"""Snapshots and the directory: whole, verified and fitting, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.engine.commands import Entry, apply_command
from constellation_core.consensus.engine.identity import DirectoryLock, Identity, write_identity
from constellation_core.consensus.engine.journal import write_journal
from constellation_core.consensus.engine.library import VoterNode
from constellation_core.consensus.engine.snapshots import (
    Snapshot,
    SnapshotStore,
    decode_snapshot,
    encode_snapshot,
    write_snapshot,
)
from constellation_core.consensus.engine.storage import Paths, create, open_storage
from constellation_core.consensus.interface import Corrupt, Unavailable, Voter

ME = Identity(UUID(int=1), UUID(int=2))
VOTERS = (Voter(ME.id, "127.0.0.1:7001"), Voter(str(UUID(int=3)), "[::1]:7002"))


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [(apply_command(b"%d" % index), index, term) for index in range(first, last + 1)]


def snapshot(index: int, term: int = 1) -> Snapshot:
    previous, last = entries(index - 1, index, term)
    return Snapshot(ME.cluster, previous, last, VOTERS, b"state at %d" % index)


def directory(path: Path, taken: Snapshot | None, log: list[Entry]) -> Path:
    paths = Paths(path)
    if taken is not None:
        write_snapshot(paths.snapshot, encode_snapshot(taken))
    write_journal(paths.journal, ME, log)
    write_identity(paths.identity, ME)
    return path


def test_a_snapshot_comes_back_as_it_was() -> None:
    taken = snapshot(9)
    assert decode_snapshot(encode_snapshot(taken), ME.cluster) == taken


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    directory(tmp_path, snapshot(9), entries(8, 12))
    data = (tmp_path / "snapshot").read_bytes()
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        (tmp_path / "snapshot").write_bytes(damaged)
        with pytest.raises(Corrupt):
            open_storage(tmp_path)


def test_a_snapshot_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    directory(tmp_path, snapshot(9), entries(8, 12))
    data = (tmp_path / "snapshot").read_bytes()
    for length in range(0, len(data), 5):
        (tmp_path / "snapshot").write_bytes(data[:length])
        with pytest.raises(Corrupt):
            open_storage(tmp_path)


@given(st.binary(max_size=200))
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="checksum"):
        decode_snapshot(data, ME.cluster)


def test_another_groups_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match="another cluster"):
        decode_snapshot(encode_snapshot(snapshot(9)), UUID(int=8))


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        (entries(8, 12), entries(8, 12)),
        (entries(3, 12), entries(8, 12)),
        (entries(3, 9), entries(8, 9)),
        (entries(3, 6), entries(8, 9)),
        ([(b"\x01", 0, 0)], entries(8, 9)),
        ([*entries(3, 7), (b"\x01", 8, 3), (b"\x01", 9, 3), (b"\x01", 10, 3)], entries(8, 9)),
    ],
    ids=["aligned", "not trimmed yet", "nothing behind", "too short", "joining", "another term"],
)
def test_the_journal_is_aligned_with_the_snapshot(
    tmp_path: Path, log: list[Entry], kept: list[Entry]
) -> None:
    directory(tmp_path, snapshot(9), log)
    for _ in range(2):
        storage = open_storage(tmp_path)
        assert list(storage.journal[:]) == kept
        storage.close()


@pytest.mark.parametrize(
    ("taken", "log"),
    [(snapshot(9), entries(10, 14)), (None, entries(1, 4)), (None, entries(0, 1))],
    ids=["entries are missing", "no snapshot", "no snapshot but entries"],
)
def test_a_directory_in_which_something_is_missing_is_refused(
    tmp_path: Path, taken: Snapshot | None, log: list[Entry]
) -> None:
    directory(tmp_path, taken, log)
    with pytest.raises(Corrupt):
        open_storage(tmp_path)
    # Refused or not, the directory can be used by another process afterwards.
    DirectoryLock(tmp_path / "lock").release()


@pytest.mark.parametrize("name", ["journal", "snapshot"])
def test_a_voter_that_lost_a_file_does_not_start(tmp_path: Path, name: str) -> None:
    create(tmp_path, ME, VOTERS, b"")
    (tmp_path / name).unlink()
    with pytest.raises(Corrupt):
        open_storage(tmp_path)


def test_an_identity_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    create(tmp_path, ME, VOTERS, b"")
    (tmp_path / "identity").write_bytes(b"{}")
    with pytest.raises(Corrupt):
        open_storage(tmp_path)


def test_a_directory_is_made_once(tmp_path: Path) -> None:
    create(tmp_path, ME, VOTERS, b"")
    with pytest.raises(Unavailable):
        create(tmp_path, ME, VOTERS, b"")


@pytest.mark.parametrize(
    "point",
    [
        f"{file}.{step}"
        for file in ("snapshot", "journal.trim", "identity")
        for step in ("half", "unsynced", "synced", "renamed")
    ],
)
def test_a_directory_is_made_whole_or_can_be_made_anew(tmp_path: Path, point: str) -> None:
    def crash(name: str) -> None:
        if name == point:
            raise SystemExit

    with pytest.raises(SystemExit):
        create(tmp_path, ME, VOTERS, b"", crash)
    try:
        create(tmp_path, ME, VOTERS, b"")
    except Unavailable:
        assert point == "identity.renamed"
    storage = open_storage(tmp_path)
    assert storage.snapshot is not None
    storage.close()


def test_two_processes_do_not_use_one_directory(tmp_path: Path) -> None:
    create(tmp_path, ME, VOTERS, b"")
    storage = open_storage(tmp_path)
    with pytest.raises(Unavailable, match="another process"):
        open_storage(tmp_path)
    storage.close()
    open_storage(tmp_path).close()


def test_a_group_is_formed_by_those_in_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part of"):
        create(tmp_path, Identity(ME.cluster, UUID(int=77)), VOTERS, b"")


class Store:
    """A sender's store and a receiver's."""

    def __init__(self, path: Path, state: bytes) -> None:
        self.now = 0.0
        self.waiting = 0
        self.patient = True
        self.snapshot = replace(snapshot(9), state=state)
        self.sender = self._make(path / "sender")
        self.receiver = self._make(path / "receiver")
        self.sender.serialize((None, self.snapshot.last, self.snapshot.previous, None), 8)
        assert self.sender.checkSerializing() == (2, 8)

    def _make(self, path: Path) -> SnapshotStore:
        return SnapshotStore(
            path,
            ME.cluster,
            take=lambda previous, last: self.snapshot,
            wanted=lambda snapshot: True,
            backlog=lambda voter: self.waiting,
            patient=lambda: self.patient,
            clock=lambda: self.now,
        )

    def pieces(self) -> Iterator[tuple[bytes, bool, bool]]:
        while (piece := self.sender.getTransmissionData(VoterNode(ME.id))) is not None:
            yield piece
            if piece[2]:
                return


def test_a_large_snapshot_goes_in_pieces(tmp_path: Path) -> None:
    store = Store(tmp_path, os.urandom(300_000))
    pieces = list(store.pieces())
    assert [first for _, first, _ in pieces] == [True] + [False] * 5
    assert [store.receiver.setTransmissionData(piece) for piece in pieces][-1]
    assert store.receiver.received == store.snapshot


def test_a_snapshot_with_a_piece_missing_or_changed_is_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path, os.urandom(300_000))
    pieces = list(store.pieces())
    del pieces[2]
    assert not any(map(store.receiver.setTransmissionData, pieces))
    pieces = list(store.pieces())
    pieces[2] = (bytes(len(pieces[2][0])), False, False)
    assert not any(map(store.receiver.setTransmissionData, pieces))
    assert store.receiver.received is None
    assert not (tmp_path / "receiver").exists()


def test_an_endless_snapshot_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, b"")
    piece = bytes(1 << 20)
    for number in range(100):
        assert not store.receiver.setTransmissionData((piece, number == 0, False))
    assert store.receiver._receiving is None


def test_no_snapshot_is_taken_while_one_is_sent_for_a_while(tmp_path: Path) -> None:
    store = Store(tmp_path, os.urandom(300_000))
    assert store.sender.checkSerializing()[0] == 0
    store.sender.getTransmissionData(VoterNode(ME.id))
    assert store.sender.checkSerializing()[0] == 1
    store.patient = False
    assert store.sender.checkSerializing()[0] == 0
    store.patient = True
    store.now += 10
    assert store.sender.checkSerializing()[0] == 0


def test_a_receiver_that_reads_slowly_is_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path, b"")
    store.waiting = 1 << 30
    assert store.sender.getTransmissionData(VoterNode(ME.id)) is None
