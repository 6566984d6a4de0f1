"""Voters on hosts of their own, and a network between them that is cut in all kinds of ways.

Clients and holders of a lease are at work all the while, and reach every voter, also one that is
cut off from the others. Whatever is cut: what clients were told is linearizable, the lease has
one holder at a time, a side with a majority goes on, one without answers nothing, and afterwards
all states are the same. ``test_chaos_bare_library.py`` shows what happens without the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from constellation_core.testing.consensus.chaos import Work, at_work
from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.consensus.mishaps import cut, isolated_leader, others
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces
from constellation_core.testing.waiting import until, until_so

pytestmark = pytest.mark.chaos

FLAPS = 5


@asynccontextmanager
async def voters(root: Path, size: int = 3) -> AsyncIterator[tuple[Work, NamespaceNetwork]]:
    """Voters with clients and holders of a lease; nothing may be wrong in the end."""
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)
    with NamespaceNetwork(tuple("abcde"[:size])) as network:
        group = CrashGroup(root, size, machine="state", hosts=network)
        async with group, at_work(root, group) as work:
            yield work, network
            network.heal()
            await work.progress()
            assert await work.faults() == []


async def silent(work: Work, cut_off: Sequence[VoterProcess]) -> None:
    """Wait until none of them leads; then none of them acknowledges anything."""

    async def none_leads() -> bool:
        statuses = [await work.group.status(each) for each in cut_off]
        return all(status and status["role"] != "leader" for status in statuses)

    await until(none_leads, 10, "the end of all leadership")
    for each in cut_off:
        assert (await work.group.ask(each, "barrier"))[0] in ("NotLeader", "Unknown")


async def without_leader(work: Work, cut_off: Sequence[VoterProcess]) -> bool:
    """Whether none of them believes that anybody leads."""
    statuses = [await work.group.status(each) for each in cut_off]
    return all(status is not None and status["leader"] is None for status in statuses)


async def mended(work: Work, network: NamespaceNetwork) -> None:
    """Mend it, and wait until every voter knows the same leader."""
    network.heal()
    await work.progress()

    async def agreed() -> bool:
        statuses = [await work.group.status(each) for each in work.group.voters]
        leaders = {status["leader"]["id"] for status in statuses if status and status["leader"]}
        return len(leaders) == 1 and all(status and status["leader"] for status in statuses)

    await until(agreed, 30, "one leader of all", explain=work.group.logs)


async def test_the_side_with_a_majority_goes_on(tmp_path: Path) -> None:
    async with voters(tmp_path, 5) as (work, network):
        # A minority without the leader: nothing is to be decided anew.
        leader = await work.group.leader()
        few = others(work.group, leader)[:2]
        many = others(work.group, *few)
        cut(network, few, many)
        await work.progress(100)
        assert await work.group.leader(among=many) is leader
        await silent(work, few)
        await until(lambda: without_leader(work, few), 10, "the end of their belief in it")
        await mended(work, network)
        # The leader is in the minority.
        leader = await work.group.leader()
        few = [leader, others(work.group, leader)[0]]
        many = others(work.group, *few)
        cut(network, few, many)
        await work.group.leader(among=many)
        await work.progress(100)
        await silent(work, few)


async def test_a_leader_that_is_alone_answers_nothing_and_is_replaced(tmp_path: Path) -> None:
    async with voters(tmp_path) as (work, network):
        await isolated_leader(work, network)
        await mended(work, network)
        # Nobody is with anybody: nothing is acknowledged, whatever the clients try.
        cut(network, *[[each] for each in work.group.voters])
        await silent(work, work.group.voters)
        written, failed = work.writes, work.failed
        await until_so(lambda: work.failed >= failed + 6, 30, "calls that fail")
        assert work.writes == written


@pytest.mark.parametrize("direction", ["from", "to"])
async def test_a_leader_with_one_direction_lost_is_replaced(tmp_path: Path, direction: str) -> None:
    async with voters(tmp_path) as (work, network):
        old = await work.group.leader()
        rest = others(work.group, old)
        for each in rest:
            pair = (old.host, each.host) if direction == "from" else (each.host, old.host)
            network.drop(*pair)
        await work.group.leader(among=rest)
        await silent(work, [old])
        await work.progress()


async def test_links_that_come_and_go_lose_nothing(tmp_path: Path) -> None:
    chance = Random(4)
    async with voters(tmp_path) as (work, network):
        # First one between two voters, in one direction: it stops nothing.
        leader = await work.group.leader()
        network.drop(leader.host, others(work.group, leader)[0].host)
        await work.progress(100)
        for _ in range(FLAPS):
            alone = chance.choice(work.group.voters)
            cut(network, [alone], others(work.group, alone))
            await asyncio.sleep(chance.uniform(0.05, 0.8))
            network.heal()
            await asyncio.sleep(chance.uniform(0.05, 0.4))
