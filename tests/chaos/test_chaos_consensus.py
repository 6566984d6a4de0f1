"""kill -9 of voters under load, with a compaction every few entries: nothing may be lost.

Short by default. ``CONSENSUS_ACKNOWLEDGED=100000 CONSENSUS_KILLS=50`` makes the first test go on
until so many writes were acknowledged and so many processes killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from constellation_core.testing.consensus.crashes import CrashGroup
from constellation_core.testing.waiting import until_so

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
