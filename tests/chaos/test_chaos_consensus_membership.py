"""Voters come and go under load, several changes are asked for at once, and voters are killed.

Short by default; ``CONSENSUS_CHAOS_SECONDS`` says for how long the second test goes on.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from constellation_core.testing.consensus.control import Gone
from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.consensus.mishaps import overlapping_changes
from constellation_core.testing.waiting import until

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("CONSENSUS_CHAOS_SECONDS", "6"))
FEWEST, MOST = 3, 5


async def test_two_changes_of_the_voters_do_not_overlap(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        assert await overlapping_changes(group) == []


class Changes:
    """Asks for changes of the voters, and keeps count of what came of them."""

    def __init__(self, group: CrashGroup, chance: Random) -> None:
        self.outcomes: Counter[str] = Counter()
        self.voters = {each.voter.id for each in group.voters}
        self.doubtful: set[str] = set()
        self._group = group
        self._chance = chance

    async def round(self) -> None:
        """Two changes at once, each asked of every voter, and a kill in between."""
        group, asking = self._group, []
        if len(group.voters) < MOST:
            new = group.join()
            await group.start(new)
            asking.append(self._ask("add", new))
        if len(self.voters) > FEWEST:
            victim = self._chance.choice([each for each in group.voters if self._counts(each)])
            asking.append(self._ask("remove", victim))
        tasks = [asyncio.create_task(each) for each in asking]
        await asyncio.sleep(self._chance.uniform(0, 0.3))
        await group.kill(self._chance.choice(group.voters))
        await group.start()
        await asyncio.gather(*tasks)
        await self._clear()

    async def settle(self) -> None:
        """Wait until all voters agree on who they are; the processes of others end."""
        group = self._group

        async def agreed() -> bool:
            leader = await group.leader()
            status = await group.status(leader)
            if status is None or status["change_pending"]:
                return False
            voters = {each["id"] for each in status["voters"]}
            for each in [each for each in group.voters if each.voter.id not in voters]:
                await group.kill(each)
                group.voters.remove(each)
            self._compare(voters)
            return True

        await until(agreed, 60, "a configuration that is committed", explain=group.logs)

    def _compare(self, voters: set[str]) -> None:
        certain = self.voters - self.doubtful
        assert certain <= voters <= self.voters | self.doubtful
        self.voters, self.doubtful = voters, set()

    def _counts(self, each: VoterProcess) -> bool:
        return each.voter.id in self.voters

    async def _ask(self, word: str, whom: VoterProcess) -> None:
        value = whom.voter.id
        if word == "add":
            value += f" {whom.voter.address}"
        for each in list(self._group.voters):
            try:
                outcome, _ = await self._group.ask(each, word, value.encode())
            except Gone:
                outcome = "Unknown"
            self.outcomes[f"{word} {outcome}"] += 1
            if outcome == "done":
                self.doubtful.discard(whom.voter.id)
                if word == "add":
                    self.voters.add(whom.voter.id)
                else:
                    self.voters.discard(whom.voter.id)
                return
            if outcome == "Unknown":
                self.doubtful.add(whom.voter.id)

    async def _clear(self) -> None:
        """End those that surely do not count, and were not just asked for."""
        for each in list(self._group.voters):
            if not self._counts(each) and each.voter.id not in self.doubtful:
                await self._group.kill(each)
                self._group.voters.remove(each)


@pytest.mark.timeout(120 + 3 * SECONDS)
async def test_changes_at_once_and_kills_lose_nothing(tmp_path: Path) -> None:
    async with CrashGroup(tmp_path) as group:
        await group.start()
        await group.leader()
        changes = Changes(group, Random(4))
        ends = time.monotonic() + SECONDS
        rounds = 0
        async with group.load(8) as tally:
            while time.monotonic() < ends or rounds < 4:
                await changes.round()
                await changes.settle()
                rounds += 1
        await changes.settle()
        await group.check()
    print(f"{rounds} rounds, {dict(changes.outcomes)}, {len(tally.acknowledged)} acknowledged")  # noqa: T201
    assert changes.outcomes["add done"] > 1
    assert changes.outcomes["remove done"] > 0
    assert len(tally.acknowledged) > 100
