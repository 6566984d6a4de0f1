"""What happens to voters at work, step by step: the same for the engine and for what it wraps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from constellation_core.testing.consensus.chaos import Work
from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.namespaces import NamespaceNetwork
from constellation_core.testing.waiting import NotInTimeError, until


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


class Mishaps:
    """One after the other by chance, several at a time.

    Attributes:
        counts: how often each happened.
        kills: of voters.
    """

    def __init__(self, work: Work, network: NamespaceNetwork, chance: Random) -> None:
        self.counts: Counter[str] = Counter()
        self.kills = 0
        self._work = work
        self._group = work.group
        self._contenders = work.contenders
        self._network = network
        self._chance = chance
        self._starting = asyncio.Lock()
        self._holders = {name: asyncio.Lock() for name in work.contenders.names}

    async def run(self, seconds: float, at_a_time: int = 2) -> None:
        """Let them happen for that long, then mend everything."""
        mishaps: list[Callable[[], Awaitable[None]]] = [
            self._kill_voters,
            self._pause_voters,
            self._isolate,
            self._lose_a_direction,
            self._split_all,
            self._flap,
            self._transfer,
            self._pause_holder,
            self._stop_holder,
            self._kill_holder,
            self._set_clocks,
        ]

        # As from a deck of cards: each once, before any comes again.
        deck: list[Callable[[], Awaitable[None]]] = []

        async def some() -> None:
            while True:
                if not deck:
                    deck.extend(self._chance.sample(mishaps, len(mishaps)))
                mishap = deck.pop()
                self.counts[mishap.__name__.strip("_")] += 1
                await mishap()
                await self._wait(0.0, 0.5)

        tasks = [asyncio.create_task(some()) for _ in range(at_a_time)]
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._network.heal()
            self._group.resume(*self._group.voters)
            await self._group.start()
            for name in self._contenders.names:
                if self._contenders.runs(name):
                    self._contenders.resume(name)
                else:
                    await self._contenders.start(name)

    async def _wait(self, least: float, most: float) -> None:
        await asyncio.sleep(self._chance.uniform(least, most))

    def _some_voters(self, most: int) -> list[VoterProcess]:
        return self._chance.sample(self._group.voters, self._chance.randint(1, most))

    async def _kill_voters(self) -> None:
        async with self._starting:
            victims = self._some_voters(len(self._group.voters))
            assert all(each.runs for each in self._group.voters), self._group.logs()
            await self._group.kill(*victims)
            self.kills += len(victims)
            await self._wait(0.0, 0.5)
            await self._group.start()

    async def _pause_voters(self) -> None:
        victims = self._some_voters(2)
        self._group.pause(*victims)
        await self._wait(0.1, 2.0)
        self._group.resume(*victims)

    async def _isolate(self) -> None:
        alone = self._some_voters(1)
        cut(self._network, alone, others(self._group, *alone))
        await self._wait(0.2, 3.0)
        self._network.heal()

    async def _lose_a_direction(self) -> None:
        source, target = self._chance.sample(self._group.voters, 2)
        self._network.drop(source.host, target.host)
        await self._wait(0.2, 3.0)
        self._network.heal()

    async def _split_all(self) -> None:
        cut(self._network, *[[each] for each in self._group.voters])
        await self._wait(0.2, 1.5)
        self._network.heal()

    async def _flap(self) -> None:
        alone = self._some_voters(1)
        for _ in range(4):
            cut(self._network, alone, others(self._group, *alone))
            await self._wait(0.05, 0.3)
            self._network.heal()
            await self._wait(0.05, 0.3)

    async def _transfer(self) -> None:
        for each in self._group.voters:
            await self._ask(each, "transfer", b"")

    async def _set_clocks(self) -> None:
        seconds = self._chance.randint(-(10**9), 10**9)
        for each in self._some_voters(len(self._group.voters)):
            await self._ask(each, "clock", f"wall {seconds}".encode())
        self._contenders.order(self._some_holder(), f"wall {seconds}")

    async def _pause_holder(self) -> None:
        name = self._some_holder()
        async with self._holders[name]:
            self._contenders.pause(name)
            await self._wait(0.1, 2 * self._group.times.ttl)
            self._contenders.resume(name)

    async def _stop_holder(self) -> None:
        """Between its check and its write."""
        name = self._some_holder()
        async with self._holders[name]:
            self._contenders.order(name, "stop")
            try:
                await self._contenders.paused(name, 2 * self._group.times.ttl)
            except NotInTimeError:
                # It did not get the lease meanwhile, and need not stop when it does.
                self._contenders.take_back(name, "stop")
            await self._wait(0.1, 2 * self._group.times.ttl)
            self._contenders.resume(name)

    async def _kill_holder(self) -> None:
        name = self._some_holder()
        async with self._holders[name]:
            await self._contenders.kill(name)
            await self._wait(0.0, 1.0)
            await self._contenders.start(name)

    def _some_holder(self) -> str:
        return self._chance.choice(self._contenders.names)

    async def _ask(self, voter: VoterProcess, word: str, value: bytes) -> None:
        # It may be killed or paused just now.
        asking = asyncio.create_task(self._group.ask(voter, word, value))
        await asyncio.wait([asking], timeout=0.5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
