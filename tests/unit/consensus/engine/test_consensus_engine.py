"""The engine with real sockets and threads, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from constellation_core.consensus.engine import (
    MAX_OPERATION,
    EngineSettings,
    Identity,
    RaftEngine,
    Timing,
    create,
    transport,
)
from constellation_core.consensus.engine.frames import Sealer
from constellation_core.consensus.engine.handshake import ANSWER_LENGTH, HELLO_LENGTH, Dialler
from constellation_core.consensus.engine.keys import group_keys
from constellation_core.consensus.engine.messages import encode_message
from constellation_core.consensus.interface import (
    Corrupt,
    Engine,
    MembershipRefused,
    NotLeader,
    Role,
    Unavailable,
    Unknown,
    Voter,
)
from constellation_core.testing.consensus.record import Record
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until, until_so

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
BRISK = Timing(
    election_min=0.3, election_max=0.6, heartbeat=0.05, leader_patience=0.6, compact_entries=20
)


class Group:
    """Engines on loopback."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cluster = uuid4()
        self.ports = PortPicker()
        self.engines: dict[str, RaftEngine] = {}
        self.voters: tuple[Voter, ...] = ()
        self.machine: type[Record] = Record

    def voter(self) -> Voter:
        return Voter(str(uuid4()), f"127.0.0.1:{self.ports.pick()}")

    async def form(self, size: int, *keys: bytes) -> None:
        self.voters = tuple(self.voter() for _ in range(size))
        for each in self.voters:
            await self.add(each, self.voters, *keys)

    async def add(self, voter: Voter, voters: tuple[Voter, ...] | None, *keys: bytes) -> RaftEngine:
        path = self.root / voter.id
        path.mkdir()
        create(path, Identity(self.cluster, UUID(voter.id)), voters, b"")
        return await self.start(voter, *keys)

    async def start(self, voter: Voter, *keys: bytes) -> RaftEngine:
        port = int(voter.address.rpartition(":")[2])
        settings = EngineSettings(self.root / voter.id, ("127.0.0.1", port), keys or (KEY,), BRISK)
        engine: Engine = RaftEngine(settings, self.machine())
        await engine.start()
        assert isinstance(engine, RaftEngine)
        self.engines[voter.id] = engine
        return engine

    async def leader(self) -> RaftEngine:
        def find() -> list[RaftEngine]:
            return [each for each in self.engines.values() if each.status.role is Role.LEADER]

        await until_so(find, 20, "a leader")
        return find()[0]

    async def write(self, number: int) -> None:
        for _ in range(50):
            try:
                await (await self.leader()).propose(b"%d" % number, timeout=5)
            except NotLeader:
                await asyncio.sleep(0.05)
            else:
                return
        pytest.fail("nobody leads for long")


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    made = Group(tmp_path)
    yield made
    for engine in made.engines.values():
        await engine.stop()
        assert engine.status.failure is None


async def test_a_single_voter_starts_at_once_and_keeps_what_it_was_told(group: Group) -> None:
    await group.form(1)
    for number in range(50):
        await group.write(number)
    (engine,) = group.engines.values()
    applied: list[int] = []
    end = engine.on_applied(applied.append)
    index = await engine.barrier(timeout=5)
    await until_so(lambda: applied and applied[-1] >= index, 5, "the listener")
    end()
    await engine.stop()
    again = await group.start(group.voters[0])
    await group.write(50)
    record = again._machine
    assert isinstance(record, Record)
    assert (await again.read(record.standing)).done == (1 << 51) - 1
    assert again.status.snapshot_index > 2


async def test_a_listener_hears_of_the_last_of_many_entries(group: Group) -> None:
    await group.form(1)
    engine = await group.leader()
    applied: list[int] = []
    engine.on_applied(applied.append)
    for number in range(40):
        await engine.propose(b"%d" % number, timeout=5)
    record = engine._machine
    assert isinstance(record, Record)
    last = (await engine.read(record.standing)).index
    await until_so(lambda: applied and applied[-1] >= last, 5, "the listener")
    assert applied == sorted(set(applied))


async def test_three_voters_replicate_and_a_new_one_takes_the_place_of_an_old(
    group: Group,
) -> None:
    await group.form(3)
    for number in range(30):
        await group.write(number)
    leader = await group.leader()
    gone = next(each for each in group.voters if each.id != leader.status.me)
    await group.engines.pop(gone.id).stop()
    await until_so(lambda: dict(leader.status.heard)[gone.id] > 0.3, 10, "the silence of one")
    ((answering, seconds),) = (each for each in leader.status.heard if each[0] != gone.id)
    assert answering in group.engines
    assert seconds < dict(leader.status.heard)[gone.id]
    new = group.voter()
    joined = await group.add(new, None)
    assert joined.status.role is Role.JOINING
    await leader.add_voter(new, timeout=5)
    await leader.remove_voter(gone.id, timeout=5)
    await group.write(30)
    await until_so(
        lambda: joined.status.applied_index == leader.status.applied_index, 10, "the new voter"
    )
    assert joined.status.role is Role.FOLLOWER
    assert {each.id for each in joined.status.voters} == group.engines.keys()
    await leader.transfer_leadership()
    await until_so(lambda: leader.status.role is not Role.LEADER, 10, "the transfer")
    await group.write(31)


class Large(Record):
    """A record with a state of several megabytes."""

    def snapshot(self) -> bytes:
        return super().snapshot().ljust(5_000_000, b"\xc0")

    def restore(self, snapshot: bytes) -> None:
        super().restore(snapshot.rstrip(b"\xc0"))


async def test_a_new_voter_gets_a_large_state_while_the_others_write(
    group: Group,
) -> None:
    group.machine = Large
    await group.form(1)
    for number in range(60):
        await group.write(number)
    new = group.voter()
    joined = await group.add(new, None)
    leader = await group.leader()
    await leader.add_voter(new, timeout=20)
    for number in range(60, 120):
        await group.write(number)
    await until_so(
        lambda: joined.status.applied_index == leader.status.applied_index, 10, "the new voter"
    )
    assert joined.status.snapshot_index > 2


async def test_what_cannot_be_is_refused(group: Group) -> None:
    await group.form(3)
    leader = await group.leader()
    follower = next(each for each in group.engines.values() if each is not leader)
    with pytest.raises(ValueError, match="at most"):
        await leader.propose(bytes(MAX_OPERATION + 1), timeout=5)
    with pytest.raises(MembershipRefused):
        await leader.add_voter(Voter("a name", "127.0.0.1:1"), timeout=5)
    with pytest.raises(MembershipRefused):
        await leader.add_voter(Voter(str(uuid4()), "host.example:1"), timeout=5)
    with pytest.raises(MembershipRefused):
        await leader.remove_voter(str(uuid4()), timeout=5)
    await until_so(lambda: follower.status.leader, 10, "the follower's leader")
    with pytest.raises(NotLeader) as raised:
        await follower.propose(b"1", timeout=5)
    assert raised.value.hint is not None
    assert raised.value.hint.id == leader.status.me


async def test_without_a_majority_the_outcome_is_unknown_and_the_leader_steps_down(
    group: Group,
) -> None:
    await group.form(3)
    leader = await group.leader()
    for voter in group.voters:
        if voter.id != leader.status.me:
            await group.engines.pop(voter.id).stop()
    with pytest.raises(Unknown):
        await leader.propose(b"1", timeout=0.3)
    await until_so(lambda: leader.status.role is Role.FOLLOWER, 10, "its stepping down")
    waiting = asyncio.create_task(leader.propose(b"2", timeout=10))
    with pytest.raises((NotLeader, Unknown)):
        await waiting
    await leader.stop()
    with pytest.raises(Unavailable):
        await leader.propose(b"3", timeout=1)


async def test_what_waits_is_unknown_when_the_engine_stops(group: Group) -> None:
    await group.form(2)
    await group.write(0)
    leader = await group.leader()
    other = next(each for each in group.engines.values() if each is not leader)
    await other.stop()
    before = leader.status.last_index
    waiting = asyncio.create_task(leader.propose(b"1", timeout=10))
    await until_so(lambda: leader.status.last_index > before, 5, "the entry")
    await leader.stop()
    with pytest.raises(Unknown):
        await waiting


async def test_a_disk_error_halts_the_voter_and_the_status_says_why(tmp_path: Path) -> None:
    voter = Voter(str(uuid4()), f"127.0.0.1:{PortPicker().pick()}")
    create(tmp_path, Identity(uuid4(), UUID(voter.id)), (voter,), b"")
    full = threading.Event()

    def fault(name: str) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")

    port = int(voter.address.rpartition(":")[2])
    engine = RaftEngine(
        EngineSettings(tmp_path, ("127.0.0.1", port), (KEY,), BRISK), Record(), fault
    )
    await engine.start()
    await until_so(lambda: engine.status.role is Role.LEADER, 10, "the leader")
    await engine.propose(b"1", timeout=5)
    full.set()
    with pytest.raises(Unknown):
        await engine.propose(b"2", timeout=5)
    assert engine.status.role is Role.FAILED
    assert "No space left" in str(engine.status.failure)
    with pytest.raises(Unavailable, match="No space left"):
        await engine.propose(b"3", timeout=5)
    with pytest.raises(Unavailable):
        await engine.read(lambda: None)
    await engine.stop()


async def test_a_damaged_voter_does_not_start(group: Group) -> None:
    await group.form(1)
    await group.write(0)
    (engine,) = group.engines.values()
    await engine.stop()
    path = group.root / group.voters[0].id / "journal"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        await group.start(group.voters[0])


class Slow(Record):
    """Takes its time to read its snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.going_on = threading.Event(), threading.Event()

    def restore(self, snapshot: bytes) -> None:
        self.reading.set()
        self.going_on.wait()
        super().restore(snapshot)


async def test_a_start_that_is_given_up_leaves_nothing_open(group: Group) -> None:
    voter = group.voter()
    path = group.root / voter.id
    path.mkdir()
    create(path, Identity(group.cluster, UUID(voter.id)), (voter,), b"")
    settings = EngineSettings(path, _where(voter), (KEY,), BRISK)
    slow = Slow()
    starting = asyncio.create_task(RaftEngine(settings, slow).start())
    await until_so(slow.reading.is_set, 10, "the snapshot to be read")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    slow.going_on.set()

    async def started() -> bool:
        try:
            await group.start(voter)
        except Unavailable:
            return False
        return True

    await until(started, 10, "another start to succeed")


async def test_a_port_that_is_taken_is_named(group: Group) -> None:
    await group.form(1)
    other = Voter(str(uuid4()), group.voters[0].address)
    with pytest.raises(Unavailable, match="cannot listen"):
        await group.add(other, None)


async def test_the_key_is_changed_voter_by_voter(group: Group) -> None:
    await group.form(3, OTHER_KEY)
    await group.write(0)
    for keys in ((OTHER_KEY, KEY), (KEY, OTHER_KEY), (KEY,)):
        for number, voter in enumerate(group.voters):
            await group.engines[voter.id].stop()
            await group.start(voter, *keys)
            await group.write(number + 1)


async def test_a_voter_with_another_key_is_refused(group: Group) -> None:
    await group.form(3)
    await group.write(0)
    leader = await group.leader()
    stranger = next(each for each in group.voters if each.id != leader.status.me)
    await group.engines[stranger.id].stop()
    engine = await group.start(stranger, OTHER_KEY)
    refused = leader.status.refused
    await until_so(
        lambda: leader.status.refused > refused or engine.status.refused, 10, "the refusal"
    )
    assert engine.status.leader is None
    await group.write(1)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("code was run",)


@pytest.mark.parametrize(
    "attack",
    [
        pickle.dumps(Bomb()),
        b"\xff\xff\xff\xff" + bytes(HELLO_LENGTH),
        bytes(HELLO_LENGTH),
        bytes(100_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(HELLO_LENGTH),
    ],
    ids=["bomb", "length", "zeros", "much", "http"],
)
async def test_who_has_not_the_key_is_cut_off(group: Group, attack: bytes) -> None:
    await group.form(1)
    await group.write(0)
    (engine,) = group.engines.values()
    reader, writer = await asyncio.open_connection(*_where(group.voters[0]))
    writer.write(attack.ljust(HELLO_LENGTH, b"\0"))
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    await until_so(lambda: engine.status.refused, 5, "the refusal")
    await group.write(1)


async def test_who_says_nothing_is_cut_off_and_keeps_nobody_out(group: Group) -> None:
    await group.form(1)
    await group.write(0)
    (engine,) = group.engines.values()
    where = _where(group.voters[0])
    silent = [socket.create_connection(where) for _ in range(100)]
    # One byte at a time is no better.
    silent[0].send(b"C")
    await until_so(lambda: engine.status.refused >= 100, 10, "their end")
    for each in silent:
        each.close()
    await group.write(1)


def _where(voter: Voter) -> tuple[str, int]:
    host, _, port = voter.address.rpartition(":")
    return host, int(port)


class Insider:
    """A peer that has the key, and misuses it."""

    def __init__(self, group: Group) -> None:
        self.me = uuid4()
        key = group_keys([KEY], group.cluster)[0]
        self.dialler = Dialler(key, group.cluster, self.me, UUID(group.voters[0].id))
        self.said = b""

    async def connect(self, group: Group) -> Sealer:
        self.reader, self.writer = await asyncio.open_connection(*_where(group.voters[0]))
        self.say(self.dialler.hello)
        confirm, session = self.dialler.answered(await self.reader.readexactly(ANSWER_LENGTH))
        self.say(confirm)
        return Sealer(session.send_key)

    def say(self, data: bytes) -> None:
        self.said += data
        self.writer.write(data)

    async def cut_off(self) -> None:
        async with asyncio.timeout(10):
            try:
                while await self.reader.read(1000):
                    pass
            except ConnectionResetError:
                pass
        self.writer.close()


@pytest.mark.parametrize("what", ["bomb", "utility", "entries", "oversized", "replayed"])
async def test_even_with_the_key_only_valid_messages_are_taken(group: Group, what: str) -> None:
    await group.form(1)
    await group.write(0)
    (engine,) = group.engines.values()
    insider = Insider(group)
    sealer = await insider.connect(group)
    good = encode_message({"type": "newer_term", "term": 0})
    match what:
        case "bomb":
            insider.say(sealer.seal(pickle.dumps(Bomb())))
        case "utility":
            insider.say(sealer.seal(pickle.dumps(["remove", group.voters[0].id])))
        case "entries":
            entry = (b"\x02" + pickle.dumps(Bomb()), 3, 1)
            message = {"type": "append_entries", "term": 9, "commit_index": 0, "prevLogIdx": 2}
            message |= {"prevLogTerm": 0, "entries": [entry]}
            insider.say(sealer.seal(encode_message(message)))
        case "oversized":
            insider.say((1 << 30).to_bytes(4, "little") + bytes(100))
        case "replayed":
            frame = sealer.seal(good)
            insider.say(frame + frame)
    await insider.cut_off()
    await until_so(lambda: engine.status.refused, 5, "the refusal")
    await group.write(1)


async def test_a_recorded_connection_cannot_be_replayed(group: Group) -> None:
    await group.form(1)
    await group.write(0)
    (engine,) = group.engines.values()
    insider = Insider(group)
    sealer = await insider.connect(group)
    insider.say(sealer.seal(encode_message({"type": "newer_term", "term": 0})))
    insider.writer.close()
    again = Insider(group)
    again.reader, again.writer = await asyncio.open_connection(*_where(group.voters[0]))
    again.say(insider.said)
    await again.cut_off()
    await until_so(lambda: engine.status.refused, 5, "the refusal")
    await group.write(1)


async def test_not_even_with_the_key_can_one_connect_without_end(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_MAX_PROVEN", 3)
    await group.form(1)
    await group.write(0)
    (engine,) = group.engines.values()
    insiders = [Insider(group) for _ in range(5)]
    for each in insiders:
        await each.connect(group)
    await until_so(lambda: engine.status.refused == 2, 5, "the refusals")
    for each in insiders:
        each.writer.close()
    await group.write(1)
