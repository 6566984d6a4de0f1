"""What happens to voters at work, step by step: the same for the engine and for what it wraps."""

from __future__ import annotations

import asyncio

from constellation_core.testing.consensus.chaos import Work
from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.namespaces import NamespaceNetwork
from constellation_core.testing.waiting import until


def others(group: CrashGroup, *but: VoterProcess) -> list[VoterProcess]:
    """All voters except these."""
    return [each for each in group.voters if each not in but]


def cut(network: NamespaceNetwork, *sides: list[VoterProcess]) -> None:
    """Lose all that voters of different sides send to each other."""
    network.split(*[[each.host for each in side] for side in sides])


async def paused_leader(work: Work) -> None:
    """The leader is stopped until another one leads, and asked for what it may not know."""
    old = await work.group.leader()
    rest = others(work.group, old)
    work.group.pause(old)
    await work.group.leader(among=rest)
    await work.progress()
    async with asyncio.TaskGroup() as tasks:
        # It is asked while it is stopped, for what was written meanwhile.
        reading = tasks.create_task(work.read_all(old))
        await asyncio.wait([reading], timeout=0.2)
        work.group.resume(old)
    await work.progress()


async def isolated_leader(work: Work, network: NamespaceNetwork) -> None:
    """The leader hears no other voter any more, and is asked for what it cannot know."""
    old = await work.group.leader()
    rest = others(work.group, old)
    cut(network, [old], rest)
    await work.group.leader(among=rest)
    await work.progress()
    await work.read_all(old)
    network.heal()
    await work.progress()


async def overlapping_changes(group: CrashGroup) -> list[str]:
    """A leader that hears nobody is asked for two more voters; what is wrong with the outcome."""
    leader = await group.leader()
    rest = others(group, leader)
    group.pause(*rest)
    new = [group.join() for _ in range(2)]
    asking = [
        asyncio.create_task(
            group.ask(leader, "add", f"{each.voter.id} {each.voter.address}".encode())
        )
        for each in new
    ]
    try:

        async def counted() -> int:
            status = await group.status(leader)
            return len(status["voters"]) if status else 0

        async def grown() -> bool:
            return await counted() > len(rest) + 1

        await until(grown, 20, "the first of them in the log")
        # The second one is refused, or it will be in the log a moment later.
        await asyncio.wait(asking, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        size = await counted()
        return [] if size == len(rest) + 2 else [f"{size} voters, and nothing was committed"]
    finally:
        group.resume(*rest)
        await asyncio.gather(*asking, return_exceptions=True)
