"""A new cluster from what one voter kept, or from a backup: nothing kept is lost, and nothing
that was handed out is handed out again."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.backups import Backup, decode_backup, take
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import EngineSettings, Identity, RaftEngine, Timing, create
from constellation_core.consensus.engine.commands import Change
from constellation_core.consensus.engine.identity import DirectoryLock
from constellation_core.consensus.engine.inspection import inspect
from constellation_core.consensus.engine.storage import open_storage
from constellation_core.consensus.interface import (
    Role,
    Unavailable,
    Voter,
)
from constellation_core.consensus.leases import LeaseDuties, LeaseTimes
from constellation_core.consensus.recovery import (
    NewCluster,
    Position,
    RecoveryRefused,
    back_up,
    occupied,
    recover,
    restore,
)
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Query, ReplicatedState, Space
from constellation_core.consensus.state.operations import (
    Acquire,
    OpenSession,
    Put,
    RaiseVersion,
    RequestId,
    encode,
)
from constellation_core.consensus.state.results import Granted, decode_result
from constellation_core.consensus.store import Store
from constellation_core.consensus.voters.record import Places, read_record
from constellation_core.testing.consensus.directories import (
    CLUSTER,
    VOTERS,
    requests,
    write_voter,
)
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until_so

ME, *OTHERS = VOTERS
NOW = 1_800_000_000.0
KEY = bytes(range(32))
BRISK = Timing(election_min=0.2, election_max=0.4, heartbeat=0.05, leader_patience=0.4)


WRITTEN = requests(Put("a", b"1"), Acquire("dns", "n1", 45_000), Put("a", b"2"), Put("b", b"3"))


def survivor(
    directory: Path,
    log: Sequence[bytes | Change] = tuple(WRITTEN),
    committed: int = 4,
    voters: Sequence[Voter] = VOTERS,
) -> Path:
    """An agent's directory with a voter that has this log, from index 3 on."""
    write_voter(Places(directory).voter, log, committed=committed, voters=voters)
    return directory


def state_of(directory: Path) -> ReplicatedState:
    """What stands in a recovered voter's snapshot."""
    storage = open_storage(Places(directory).voter)
    state = ReplicatedState()
    assert storage.snapshot is not None
    state.restore(storage.snapshot.state)
    storage.close()
    return state


def values(state: ReplicatedState) -> dict[str, bytes]:
    found = state.answer(Query(Space.KEYS, "", exact=False)).entries
    return {each.key: each.value for each in found}


def granted(state: ReplicatedState, name: str = "dns") -> int:
    """The epoch that is handed out next."""
    opened = decode_result(state.apply(0, encode(OpenSession())))
    request = RequestId(getattr(opened, "session", 0), 1, 1)
    result = decode_result(state.apply(0, encode(Acquire(name, "n9", 45_000), request)))
    assert isinstance(result, Granted)
    return result.epoch


def test_all_that_is_in_the_log_is_kept_committed_or_not(tmp_path: Path) -> None:
    survivor(tmp_path, committed=4)
    made = recover(tmp_path, now=NOW)
    found = inspect(Places(tmp_path).voter)
    assert found.problems == ()
    assert found.identity is not None
    assert (str(found.identity.cluster), found.identity.id) == (made.cluster, made.voter.id)
    assert found.voters == (made.voter,)
    assert not found.change_pending
    assert found.last > (1, 7)
    assert made.former == str(CLUSTER)
    assert made.voter.id != ME.id
    assert made.voter.address == ME.address
    state = state_of(tmp_path)
    assert values(state) == {"a": b"2", "b": b"3"}


def test_leases_are_free_and_epochs_far_above_all_that_were_given(tmp_path: Path) -> None:
    survivor(tmp_path)
    recover(tmp_path, now=0.0)
    state = state_of(tmp_path)
    assert state.leases() == ()
    assert granted(state) > 1 << 20


def test_changes_of_the_voters_are_gone(tmp_path: Path) -> None:
    new = Voter(str(UUID(int=9)), "127.0.0.1:7009")
    survivor(tmp_path, [*WRITTEN, Change("add", new)])
    voter = Places(tmp_path).voter
    assert new in inspect(voter).voters
    made = recover(tmp_path, now=NOW)
    storage = open_storage(voter)
    assert list(storage.journal.changes) == []
    storage.close()
    assert inspect(voter).voters == (made.voter,)


POINTS = [
    f"{name}.{point}"
    for name in ("snapshot", "journal.trim", "identity.old", "identity")
    for point in ("half", "unsynced", "synced", "renamed")
]


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, point: str) -> None:
    survivor(tmp_path)
    voter = Places(tmp_path).voter
    before = inspect(voter)
    reached = []

    def crash(name: str) -> None:
        reached.append(name)
        if name == point:
            raise SystemExit

    with pytest.raises(SystemExit):
        recover(tmp_path, now=NOW, faults=crash)
    assert reached[-1] == point
    found = inspect(voter)
    assert found.problems == ()
    if point == "identity.renamed":
        assert found.voters != before.voters
    else:
        assert found == before
    open_storage(voter).close()
    # And it can be done again.
    made = recover(tmp_path, now=NOW)
    assert inspect(voter).voters == (made.voter,)
    assert values(state_of(tmp_path)) == {"a": b"2", "b": b"3"}


def test_what_was_before_is_kept_until_the_next_recovery(tmp_path: Path) -> None:
    survivor(tmp_path)
    voter = Places(tmp_path).voter
    old = {name: (voter / name).read_bytes() for name in ("journal", "snapshot", "identity")}
    first = recover(tmp_path, now=NOW)
    assert (voter / "journal").read_bytes() == old["journal"]
    assert (voter / "snapshot").read_bytes() == old["snapshot"]
    assert (voter / "identity.old").read_bytes() == old["identity"]
    second = recover(tmp_path, now=NOW)
    assert second.former == first.cluster
    names = {each.name for each in voter.iterdir()}
    assert names == {
        *("lock", "identity", "identity.old"),
        *(f"{name}.{generation}" for name in ("journal", "snapshot") for generation in (1, 2)),
    }


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 400), st.integers(0, 40)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=25)
def test_epochs_grow_from_one_recovery_or_restoration_to_the_next_whatever_copy_it_begins_with(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    """Of a cluster's copies, from any time, any may be the next to be made the cluster."""
    root = tmp_path_factory.mktemp("copies")
    survivor(root / "0")
    copies, latest, now = [root / "0"], granted(state_of(root / "0")), NOW
    for number, (which, seconds, grants) in enumerate(steps, 1):
        now += seconds
        directory = root / str(number)
        source = copies[which % len(copies)]
        if number % 2:
            shutil.copytree(source, directory)
            recover(directory, now=now)
        else:
            restore(directory, back_up(source, now=now), now=now, address=ME.address)
        state = state_of(directory)
        epochs = [granted(state, f"lease {each}") for each in range(grants)]
        if epochs:
            assert epochs[0] > latest
            latest = epochs[-1]
        copies.append(directory)


def refuses(directory: Path, text: str, **arguments: object) -> None:
    before = inspect(Places(directory).voter)
    with pytest.raises(RecoveryRefused, match=text):
        recover(directory, now=NOW, **arguments)  # type: ignore[arg-type]
    assert inspect(Places(directory).voter) == before


def test_the_one_that_kept_less_is_not_recovered(tmp_path: Path) -> None:
    survivor(tmp_path)
    cluster = str(CLUSTER)
    # A later term decides, whatever the index, as in an election.
    refuses(tmp_path, "b goes further", others=[Position("b", cluster, (2, 3))])
    refuses(tmp_path, "b goes further", others=[Position("b", cluster, (1, 8))])
    refuses(tmp_path, "another cluster", others=[Position("b", str(uuid4()), (1, 1))])
    less = [Position("b", cluster, (1, 7)), Position("c", cluster, (0, 99))]
    made = recover(tmp_path, now=NOW, others=less)
    again = f"another cluster, {cluster}, and this voter is of {made.cluster}; was this voter"
    refuses(tmp_path, again, others=less)


def test_damage_is_not_passed_over_unless_it_is_asked_for(tmp_path: Path) -> None:
    survivor(tmp_path)
    path = Places(tmp_path).voter / "journal"
    data = path.read_bytes()
    cut = data.index(WRITTEN[3])
    path.write_bytes(data[:cut] + b"?" + data[cut + 1 :])
    refuses(tmp_path, "is damaged at byte")
    recover(tmp_path, now=NOW, despite_damage=True)
    assert values(state_of(tmp_path)) == {"a": b"1"}


def test_what_holds_no_state_is_not_recovered(tmp_path: Path) -> None:
    with pytest.raises(RecoveryRefused, match="not a voter's"):
        recover(tmp_path, now=NOW)
    places = Places(tmp_path)
    places.make()
    create(places.voter, Identity(CLUSTER, UUID(ME.id)), None, b"")
    refuses(tmp_path, "never sent any data")


def test_a_damaged_snapshot_is_never_passed_over(tmp_path: Path) -> None:
    survivor(tmp_path)
    path = Places(tmp_path).voter / "snapshot"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    refuses(tmp_path, "checksum", despite_damage=True)


def test_code_that_is_too_old_for_the_log_does_not_guess(tmp_path: Path) -> None:
    survivor(tmp_path, [*WRITTEN, encode(RaiseVersion(99))])
    refuses(tmp_path, "older than what the voters agreed on")
    with pytest.raises(RecoveryRefused, match="older"):
        back_up(tmp_path, now=NOW)


def test_a_voter_that_is_none_any_more_needs_an_address(tmp_path: Path) -> None:
    survivor(tmp_path, [*WRITTEN, Change("remove", ME)])
    voter = Places(tmp_path).voter
    refuses(tmp_path, "do not include itself")
    with pytest.raises(ValueError, match="is not IP:PORT"):
        recover(tmp_path, now=NOW, address="127.0.0.1:0")
    made = recover(tmp_path, now=NOW, address="[::1]:7005")
    assert inspect(voter).voters == (Voter(made.voter.id, "[::1]:7005"),)


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    survivor(tmp_path)
    lock = DirectoryLock(Places(tmp_path).voter / "lock")
    for act in (
        lambda: recover(tmp_path, now=NOW),
        lambda: restore(tmp_path, Backup(str(CLUSTER), 1, 0.0, empty()), now=NOW, address="::1"),
    ):
        with pytest.raises((Unavailable, RecoveryRefused)):
            act()
    lock.release()
    assert inspect(Places(tmp_path).voter).voters == VOTERS


def empty() -> bytes:
    return ReplicatedState().snapshot()


def test_a_backup_of_a_stopped_voter_has_all_that_is_in_its_log(tmp_path: Path) -> None:
    survivor(tmp_path / "a", committed=2)
    backup = back_up(tmp_path / "a", now=NOW)
    assert (backup.cluster, backup.index, backup.at) == (str(CLUSTER), 7, NOW)
    state = ReplicatedState()
    state.restore(backup.state)
    assert values(state) == {"a": b"2", "b": b"3"}
    with pytest.raises(RecoveryRefused, match="not a voter's"):
        back_up(tmp_path / "b", now=NOW)


def test_a_restored_cluster_is_a_new_one_that_others_can_follow(tmp_path: Path) -> None:
    backup = back_up(survivor(tmp_path / "a"), now=NOW)
    made = restore(tmp_path / "b", backup, now=NOW, address="127.0.0.1:7009")
    assert not occupied(tmp_path / "c")
    assert occupied(tmp_path / "b")
    found = inspect(Places(tmp_path / "b").voter)
    assert found.voters == (made.voter,)
    assert found.problems == ()
    assert values(state_of(tmp_path / "b")) == {"a": b"2", "b": b"3"}
    record = read_record(Places(tmp_path / "b"))
    assert record.cluster == made.cluster
    assert record.former == (str(CLUSTER),)


def test_restoring_sets_aside_what_is_there(tmp_path: Path) -> None:
    survivor(tmp_path)
    backup = back_up(tmp_path, now=NOW)
    old = (Places(tmp_path).voter / "journal").read_bytes()
    first = restore(tmp_path, backup, now=NOW, address=ME.address)
    assert (Places(tmp_path).removed / "journal").read_bytes() == old
    second = restore(tmp_path, backup, now=NOW, address=ME.address)
    assert inspect(Places(tmp_path).voter).voters == (second.voter,)
    record = read_record(Places(tmp_path))
    assert record.cluster == second.cluster
    assert set(record.former) == {str(CLUSTER), first.cluster}


@pytest.mark.parametrize("point", ["snapshot.synced", "journal.trim.renamed", "identity.synced"])
def test_a_crash_while_restoring_leaves_no_voter(tmp_path: Path, point: str) -> None:
    backup = back_up(survivor(tmp_path / "a"), now=NOW)

    def crash(name: str) -> None:
        if name == point:
            raise SystemExit

    with pytest.raises(SystemExit):
        restore(tmp_path / "b", backup, now=NOW, address=ME.address, faults=crash)
    assert not occupied(tmp_path / "b")
    # Whoever knows a cluster founds none.
    assert read_record(Places(tmp_path / "b")).cluster is not None
    restore(tmp_path / "b", backup, now=NOW, address=ME.address)
    assert values(state_of(tmp_path / "b")) == {"a": b"2", "b": b"3"}


def made_up(revision: int, epoch: int, session: int, leases: list[object]) -> bytes:
    """A state that no voter was ever in, in the form of one."""
    packed: bytes = msgpack.packb([1, 1, revision, epoch, session, [], leases, [], []])
    return packed


@pytest.mark.parametrize(
    ("state", "address"),
    [
        (b"what", ME.address),
        (empty(), "node-a:7947"),
        (empty(), "::1"),
        (made_up((1 << 64) - 1, 0, 0, []), ME.address),
        (made_up(1 << 62, 1 << 62, 1 << 62, []), ME.address),
        (made_up(-5, -5, -5, []), ME.address),
        (made_up(5, 5, 5, [["dns", "a/1", 1, -7, 0, 1]]), ME.address),
        (made_up(5, 5, 5, [["d" * 100_000, "a/1", 1, 45_000, 0, 1]]), ME.address),
    ],
)
def test_what_cannot_be_restored_changes_nothing(
    tmp_path: Path, state: bytes, address: str
) -> None:
    survivor(tmp_path)
    before = inspect(Places(tmp_path).voter)
    with pytest.raises(RecoveryRefused):
        restore(tmp_path, Backup(str(CLUSTER), 1, 0.0, state), now=NOW, address=address)
    assert inspect(Places(tmp_path).voter) == before
    assert not Places(tmp_path).removed.exists()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[RaftEngine, ReplicatedState, Store]]:
    """The voter of a directory, and a store on it."""
    voter, state, clock = Places(directory).voter, ReplicatedState(), SystemBootClock()
    found = inspect(voter)
    assert found.identity is not None
    own = next((each for each in found.voters if each.id == found.identity.id), None)
    host, _, port = (own.address if own else "127.0.0.1:1").rpartition(":")
    engine = RaftEngine(EngineSettings(voter, (host, int(port)), [KEY], BRISK), state)
    access = LocalAccess(engine, state, LeaseDuties(engine, state, clock, LeaseTimes()).renew)
    store = Store(access, Requests(access, clock, Random(1)), clock, Random(2))
    await engine.start()
    try:
        yield engine, state, store
    finally:
        await engine.stop()


async def recovered(tmp_path: Path) -> NewCluster:
    survivor(tmp_path)
    address = f"127.0.0.1:{PortPicker().pick()}"
    return recover(tmp_path, now=NOW, address=address)


async def test_the_recovered_voter_leads_alone_and_goes_on(tmp_path: Path) -> None:
    made = await recovered(tmp_path)
    async with running(tmp_path) as (engine, _, store):
        await until_so(lambda: engine.status.role is Role.LEADER, 30, "its election")
        assert engine.status.voters == (made.voter,)
        entry = await store.get("a", timeout=30)
        assert entry is not None
        assert entry.value == b"2"
        await store.put("c", b"4", timeout=30)
    async with running(tmp_path) as (_, _, store):
        entry = await store.get("c", timeout=30)
        assert entry is not None


async def test_a_backup_is_taken_while_the_voter_runs(tmp_path: Path) -> None:
    await recovered(tmp_path / "a")
    async with running(tmp_path / "a") as (engine, state, store):
        await store.put("c", b"4", timeout=30)
        content = await take(engine, state, cluster=str(CLUSTER), at=NOW)
    with pytest.raises(Unavailable):
        await take(engine, state, cluster=str(CLUSTER), at=NOW)
    backup = decode_backup(content)
    assert backup.index > 8
    restore(tmp_path / "b", backup, now=NOW, address=ME.address)
    assert values(state_of(tmp_path / "b")) == {"a": b"2", "b": b"3", "c": b"4"}


async def test_a_backup_is_taken_without_a_majority(tmp_path: Path) -> None:
    voters = (Voter(ME.id, f"127.0.0.1:{PortPicker().pick()}"), *OTHERS)
    survivor(tmp_path, committed=5, voters=voters)
    async with running(tmp_path) as (engine, state, _):
        await until_so(lambda: engine.status.applied_index >= 5, 30, "what is committed")
        backup = decode_backup(await take(engine, state, cluster=str(CLUSTER), at=NOW))
    assert backup.index == 5


async def test_who_waits_to_join_has_no_backup_to_give(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.make()
    create(places.voter, Identity(CLUSTER, UUID(ME.id)), None, b"")
    engine = RaftEngine(
        EngineSettings(places.voter, ("127.0.0.1", PortPicker().pick()), [KEY], BRISK),
        ReplicatedState(),
    )
    await engine.start()
    try:
        with pytest.raises(Unavailable, match="holds nothing"):
            await take(engine, ReplicatedState(), cluster=str(CLUSTER), at=NOW)
    finally:
        await engine.stop()
