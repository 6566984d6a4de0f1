"""The procedure of docs/operations.md on real voters: most are gone for good, one is recovered,
and the voters become three again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any
from uuid import UUID

import pytest

from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.interface import ConsensusError, Voter
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state.operations import Acquire
from constellation_core.consensus.state.results import Granted
from constellation_core.consensus.store import Store
from constellation_core.testing.consensus.control import Gone
from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.consensus.sockets import socket_access
from constellation_core.testing.waiting import until, until_so

pytestmark = pytest.mark.chaos


@dataclass(slots=True)
class Writer:
    """Writes one key after the other, each once, and takes leases on the way.

    Attributes:
        tried, acknowledged: how many keys.
        epoch: the highest that a lease was given with.
    """

    store: Store
    requests: Requests
    prefix: str
    tried: int = 0
    acknowledged: set[int] = field(default_factory=set)
    epoch: int = 0

    async def write(self) -> None:
        """Until it is cancelled."""
        while True:
            number, self.tried = self.tried, self.tried + 1
            with contextlib.suppress(ConsensusError):
                await self.store.put(f"{self.prefix}/{number:06}", b"x" * 50, timeout=5)
                self.acknowledged.add(number)
            if number % 5 == 0:
                with contextlib.suppress(ConsensusError):
                    await self.lease(str(number % 3))

    async def lease(self, name: str) -> None:
        """Take a lease, and note its epoch."""
        granted = await self.requests.submit(Acquire(name, "me", 45_000), timeout=10)
        assert isinstance(granted, Granted), granted
        assert granted.epoch > self.epoch
        self.epoch = granted.epoch

    async def kept(self) -> set[int]:
        """The numbers of the keys that are there."""
        entries = await self.store.list(f"{self.prefix}/", timeout=30)
        return {int(entry.key.rpartition("/")[2]) for entry in entries}


@contextlib.asynccontextmanager
async def client(group: CrashGroup, prefix: str, epoch: int = 0) -> AsyncIterator[Writer]:
    sockets = {each.voter.id: each.control for each in group.voters}
    access, caller = socket_access(sockets, 0)
    clock, chance = SystemBootClock(), SystemRandom()
    requests = Requests(access, clock, chance)
    try:
        yield Writer(Store(access, requests, clock, chance), requests, prefix, epoch=epoch)
    finally:
        await caller.close()


@contextlib.asynccontextmanager
async def load(writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.write())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def command(voter: VoterProcess, *arguments: str | Path) -> Any:
    """``constellation consensus`` on the host of a voter that does not run; its JSON."""
    consensus = voter.home / "agent" / "consensus"
    if not consensus.exists():
        consensus.mkdir(parents=True)
        (consensus / "voter").symlink_to(voter.data)
    config = voter.home / "agent.toml"
    config.write_text('[agent]\ndata_dir = "agent"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "constellation_core.cli", "consensus"),
        *map(str, arguments),
        *("--json", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def recover(group: CrashGroup, survivor: VoterProcess, *arguments: str | Path) -> Any:
    """Recover on the host of ``survivor``, which is alone in the group from then on."""
    document = await command(survivor, "recover", "--yes", *arguments)
    group.cluster = UUID(document["cluster"])
    survivor.voter = Voter(document["voter"]["id"], document["voter"]["address"])
    group.voters[:] = [survivor]
    await group.start(survivor)
    assert await group.leader() is survivor
    return document


async def grow(group: CrashGroup, size: int) -> None:
    """Add voters with new directories, as the leader's autopilot does."""
    while len(group.voters) < size:
        new = group.join()
        await group.start(new)

        async def added(new: VoterProcess = new) -> bool:
            leader = await group.leader()
            value = f"{new.voter.id} {new.voter.address}".encode()
            with contextlib.suppress(Gone):
                await group.ask(leader, "add", value)
            status = await group.status(leader)
            ids = {each["id"] for each in status["voters"]} if status else set()
            return new.voter.id in ids and not (status and status["change_pending"])

        await until(added, 30, f"a new voter\n{group.logs()}")


async def equal(group: CrashGroup) -> bool:
    """Whether all voters have carried out the same."""
    statuses = [await group.status(each) for each in group.voters if each.runs]
    return len({status["applied_index"] if status else -1 for status in statuses}) == 1


async def test_two_of_three_voters_are_lost_for_good_and_nothing_that_was_kept_is_lost(
    tmp_path: Path,
) -> None:
    async with CrashGroup(tmp_path, machine="state") as group:
        await group.start()
        await group.leader()
        async with client(group, "before") as writer:
            async with load(writer):
                await until_so(lambda: len(writer.acknowledged) > 150, 60, "writes")
            await until(lambda: equal(group), 30, "equal voters")
        # The leader is among those that are lost.
        lost = [await group.leader()]
        lost.append(next(each for each in group.voters if each not in lost))
        (survivor,) = (each for each in group.voters if each not in lost)
        await group.kill(*group.voters)
        for each in lost:
            shutil.rmtree(each.data)
        # Alone it can do nothing: no majority answers.
        await group.start(survivor)
        status = await until(lambda: group.status(survivor), 20, "the survivor")
        assert (await group.ask(survivor, "barrier"))[0] == "NotLeader"
        await group.kill(survivor)

        seen = await command(survivor, "status", "--offline")
        assert seen["last_index"] >= status["last_index"]
        document = await recover(group, survivor)
        assert document["kept_index"] == seen["last_index"]
        await grow(group, 3)
        async with client(group, "before", writer.epoch) as again:
            # What was acknowledged is there: the survivor had all of it.
            assert await again.kept() >= writer.acknowledged
            await again.lease("0")
            assert again.epoch >= writer.epoch + (1 << 20)
        # Three voters again: one can be spared.
        await group.kill(await group.leader())
        async with client(group, "after") as after:
            async with load(after):
                await until_so(lambda: len(after.acknowledged) > 30, 60, "writes")
            await group.start()
            assert await after.kept() >= after.acknowledged
        await until(lambda: equal(group), 30, "equal voters")


async def test_under_load_only_the_newest_writes_can_be_lost(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path, machine="state") as group:
        await group.start()
        leader = await group.leader()
        (survivor, *_) = (each for each in group.voters if each is not leader)
        async with client(group, "k") as writer, load(writer):
            await until_so(lambda: len(writer.acknowledged) > 100, 60, "writes")
            # It does not hear of the last ones.
            group.pause(survivor)
            behind = len(writer.acknowledged)
            await until_so(lambda: len(writer.acknowledged) > behind + 40, 60, "writes")
            await group.kill(*group.voters)
        more = next(each for each in group.voters if each not in (leader, survivor))
        other = tmp_path / "more.json"
        other.write_text(json.dumps(await command(more, "status", "--offline")))
        with pytest.raises(AssertionError, match="goes further"):
            await recover(group, survivor, "--compare", other)
        # But if that disk is gone as well:
        document = await recover(group, survivor)
        assert document["certain_index"] <= document["kept_index"]
        async with client(group, "k", writer.epoch) as again:
            kept = await again.kept()
            lost = writer.acknowledged - kept
            assert lost
            assert len(kept) > behind // 2
            assert max(kept) < min(lost)
            # Epochs that the lost entries handed out are not handed out again.
            await again.lease("0")


async def test_an_old_voter_that_returns_cannot_disturb_the_new_cluster(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path, machine="state") as group:
        await group.start()
        await group.leader()
        old, survivor, _ = group.voters
        async with client(group, "k") as writer, load(writer):
            await until_so(lambda: len(writer.acknowledged) > 20, 60, "writes")
        await group.kill(*group.voters)
        await recover(group, survivor)
        before = await group.status(survivor)
        assert before is not None
        # It still believes that the survivor is one of its group.
        await group.start(old)
        try:

            async def refused() -> bool:
                status = await group.status(survivor)
                return bool(status and status["refused"] >= before["refused"] + 3)

            await until(refused, 30, f"its attempts\n{group.logs()}")
            status = await group.status(old)
            assert status is not None
            assert status["leader"] is None
        finally:
            await group.kill(old)
        after = await group.status(survivor)
        assert after is not None
        assert (after["term"], after["voters"]) == (before["term"], before["voters"])
        assert await group.leader() is survivor


async def test_a_recovery_that_is_killed_at_any_moment_can_be_done_again(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path, machine="state") as group:
        await group.start()
        await group.leader()
        async with client(group, "k") as writer:
            async with load(writer):
                await until_so(lambda: len(writer.acknowledged) > 40, 60, "writes")
            await until(lambda: equal(group), 30, "equal voters")
        await group.kill(*group.voters)
        survivor = group.voters[0]
        seen = await command(survivor, "status", "--offline")
        for delay in (0.0, 0.3, 0.5, 0.7):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "constellation_core.cli", "consensus", "recover"),
                *("--yes", "--config", str(survivor.home / "agent.toml")),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            # At any moment: whatever was reached by then must be whole.
            await asyncio.sleep(delay)
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
            now = await command(survivor, "status", "--offline")
            assert now["problems"] == []
            assert len(now["voters"]) == (3 if now["cluster"] == seen["cluster"] else 1)
        await recover(group, survivor)
        async with client(group, "k") as again:
            assert await again.kept() >= writer.acknowledged
