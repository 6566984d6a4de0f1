"""kill -9 of voters under load, with a compaction every few entries: nothing may be lost.

Short by default. ``CONSENSUS_ACKNOWLEDGED=100000 CONSENSUS_KILLS=50`` makes the first test go on
until so many writes were acknowledged and so many processes killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest

from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.waiting import until, until_so

pytestmark = pytest.mark.chaos

ACKNOWLEDGED = int(os.environ.get("CONSENSUS_ACKNOWLEDGED", "300"))
KILLS = int(os.environ.get("CONSENSUS_KILLS", "8"))
LONG = ACKNOWLEDGED > 1_000


async def progress(group: CrashGroup, more: int, timeout: float = 30) -> None:
    """Wait until so many more writes were acknowledged."""
    goal = len(group.tally.acknowledged) + more
    await until_so(
        lambda: len(group.tally.acknowledged) >= goal, timeout, f"{more} writes\n{group.logs()}"
    )


@pytest.mark.timeout(7200 if LONG else 120)
async def test_kills_of_one_of_most_and_of_all_voters_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(4)
    kills = elections = 0
    began = time.monotonic()
    async with CrashGroup(tmp_path) as group:
        await group.start()
        await group.leader()
        step = max(20, ACKNOWLEDGED * 2 // KILLS)
        async with group.load(64 if LONG else 16) as tally:
            while len(tally.acknowledged) < ACKNOWLEDGED or kills < KILLS:
                await progress(group, step, 120)
                # At any moment, not only after an acknowledgement.
                await asyncio.sleep(chance.random() * 0.05)
                victims = chance.sample(group.voters, (1, 2, 3)[elections % 3])
                await group.kill(*victims)
                kills += len(victims)
                elections += 1
                await group.start()
        await group.check()
        seconds = time.monotonic() - began
        summary = (
            f"{len(tally.acknowledged)} acknowledged, {tally.proposed} proposed, "
            f"{tally.unknown} unknown, {kills} kills in {elections} rounds, {seconds:.0f} s"
        )
    print(summary)  # noqa: T201 - the figures of a long run
    assert len(tally.acknowledged) >= ACKNOWLEDGED


POINTS = (
    "journal.append.half",
    "journal.append.unsynced",
    "journal.append.synced",
    "journal.trim.half",
    "journal.trim.synced",
    "journal.trim.renamed",
    "snapshot.half",
    "snapshot.synced",
    "snapshot.renamed",
)


async def test_kills_within_append_trim_and_snapshot_lose_nothing(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        await group.leader()
        async with group.load(8) as tally:
            for number, point in enumerate(POINTS if LONG else POINTS[::2]):
                # Most of them at once, at different passings of the point.
                victims = [group.voters[number % 3], group.voters[(number + 1) % 3]]
                await group.kill(*victims)
                for count, victim in enumerate(victims, 1):
                    await group.start(victim, fault=(point, count))
                for victim in victims:
                    assert victim.process is not None
                    async with asyncio.timeout(30):
                        await victim.process.wait()
                    assert victim.process.returncode == -signal.SIGKILL, group.logs()
                await group.start()
            await progress(group, 50)
        await group.check()
    assert len(tally.acknowledged) > 60


async def test_a_paused_leader_wakes_as_a_follower_and_takes_nothing_back(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        async with group.load(8):
            await progress(group, 50)
            for _ in range(2):
                old = await group.leader()
                assert old.process is not None
                old.process.send_signal(signal.SIGSTOP)
                # Those who wait for its answer are lost to the load until it wakes.
                awake = [each for each in group.voters if each is not old]
                await until(lambda awake=awake: _leads(group, awake), 20, "another leader")
                old.process.send_signal(signal.SIGCONT)
                await until(lambda old=old: _follows(group, old), 20, "its stepping down")
                await progress(group, 50)
        await group.check()


async def _leads(group: CrashGroup, among: list[VoterProcess]) -> bool:
    statuses = [await group.status(each) for each in among]
    return any(status and status["role"] == "leader" for status in statuses)


async def _follows(group: CrashGroup, voter: VoterProcess) -> bool:
    status = await group.status(voter)
    return bool(status and status["role"] == "follower" and status["leader"])


async def test_a_full_disk_halts_one_voter_and_loses_nothing(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        leader = await group.leader()
        async with group.load(8, size=200):
            await progress(group, 30)
            await group.kill(leader)
            # Less than the entries between two compactions take: it fills whatever the load.
            await group.start(leader, file_size=6_000)

            async def halted() -> bool:
                status = await group.status(leader)
                return bool(status and status["role"] == "failed")

            await until(halted, 30, "the halt", explain=group.logs)
            status = await group.status(leader)
            assert status is not None
            assert "OSError" in status["failure"]
            await progress(group, 50)
            # There is room again.
            await group.kill(leader)
            await group.start(leader)
            await progress(group, 50)
        await group.check()


async def test_a_wiped_disk_comes_back_as_nobody_and_cannot_vote_away_what_is_kept(
    tmp_path: Path,
) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        a = await group.leader()
        b, c = (each for each in group.voters if each is not a)
        # What a and b acknowledge while c is down ...
        await group.kill(c)
        async with group.load(4):
            await progress(group, 40)
        await group.kill(a, b)
        # ... must not be outvoted by c and a b without its disk.
        group.wipe(b)
        await group.start(b, c)
        log = c.home / "log"
        await until_so(
            lambda: "data directory is another one" in log.read_text(), 20, "the refusal"
        )
        before = await group.status(c)
        assert before is not None
        for _ in range(3):
            answer = await group.ask(c, "barrier")
            assert answer[0] == "NotLeader"
        joining = await group.status(b)
        assert joining is not None
        assert joining["role"] == "joining"
        await group.start(a)
        group.voters.remove(b)
        try:
            await group.check()
        finally:
            group.voters.append(b)


@pytest.mark.parametrize("name", ["journal", "snapshot"])
async def test_a_damaged_voter_refuses_to_start_and_the_others_go_on(
    tmp_path: Path, name: str
) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        await group.leader()
        victim = group.voters[0]
        async with group.load(8):
            await progress(group, 150)
            await group.kill(victim)
            path = victim.data / name
            # Behind the records there is room that was reserved.
            data = bytearray(path.read_bytes().rstrip(b"\0"))
            data[len(data) // 2] ^= 4
            path.write_bytes(data)
            await group.start(victim)
            assert victim.process is not None
            async with asyncio.timeout(20):
                await victim.process.wait()
            assert victim.process.returncode == 1
            assert "Corrupt" in (victim.home / "log").read_text()
            await progress(group, 50)
        await group.check()


async def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        await group.leader()
        async with group.load(8):
            for victim in group.voters:
                await progress(group, 40)
                await group.kill(victim)
                journal = victim.data / "journal"
                whole = journal.read_bytes().rstrip(b"\0")
                journal.write_bytes(whole + b"\x40\0\0\0 half a record")
                await group.start(victim)
        await group.check()


async def test_a_voter_that_is_far_behind_gets_a_snapshot(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        await group.leader()
        behind = group.voters[0]
        await group.kill(behind)
        async with group.load(16, size=500):
            # Several compactions.
            await progress(group, 400)
            await group.start(behind)
            await progress(group, 50)
        await group.check()
