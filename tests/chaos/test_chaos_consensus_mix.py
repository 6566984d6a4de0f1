"""Everything at once: kills, pauses, partitions and clocks, on voters and on holders of a lease.

Short by default. ``CONSENSUS_CHAOS_SECONDS=600`` makes it go on for so long, and check every
``ROUND`` seconds; ``CONSENSUS_FIRST_SEED`` says with which chance it begins.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from constellation_core.testing.consensus.chaos import at_work
from constellation_core.testing.consensus.crashes import CrashGroup
from constellation_core.testing.consensus.mishaps import Mishaps
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("CONSENSUS_CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("CONSENSUS_FIRST_SEED", "0"))
ROUND = 15.0


@pytest.mark.timeout(120 + 3 * SECONDS)
async def test_nothing_is_wrong_whatever_happens(tmp_path: Path) -> None:
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)
    totals: Counter[str] = Counter()
    ends, seed = time.monotonic() + SECONDS, SEED
    with NamespaceNetwork(("a", "b", "c")) as network:
        async with CrashGroup(tmp_path, machine="state", hosts=network) as group:
            while (left := ends - time.monotonic()) > 0:
                folder = tmp_path / f"round{seed}"
                folder.mkdir()
                async with at_work(folder, group, holders=3) as work:
                    mishaps = Mishaps(work, network, Random(seed))
                    await mishaps.run(min(left, ROUND))
                    await work.progress()
                    assert await work.faults() == [], f"seed {seed}"
                    contenders = work.contenders
                    totals.update(mishaps.counts)
                    totals["kills of voters"] += mishaps.kills
                    totals["calls answered"] += work.answered
                    totals["calls unknown"] += work.run.unknown
                    totals["writes acknowledged"] += work.writes
                    totals["leases taken"] += len(contenders.entered)
                    totals["leases lost"] += contenders.lost
                    totals["fenced writes"] += len(contenders.sink.events) - contenders.refused
                    totals["late writes refused"] += contenders.refused
                seed += 1
    print(f"{seed - SEED} rounds:", dict(totals))  # noqa: T201 - the figures of a long run
    assert totals["writes acknowledged"] > 100
    assert totals["leases taken"] > 2
