"""Agents that found a cluster and keep its voters whole, in virtual time, under many mishaps."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from constellation_core.consensus.voters.settings import VoterTimes
from constellation_core.testing.consensus.simulated_fleet import SimulatedFleet
from constellation_core.testing.virtual_loop import run_virtual

SEEDS = int(os.environ.get("CONSENSUS_SEEDS", "12"))


class World(SimulatedFleet):
    """And what may go wrong."""

    async def lose_a_minority(self, spare: int) -> None:
        """Fewer than half of the voters end: for good, wiped, damaged, or not to vote again."""
        ids = {each.id for each in self.cluster.voters}
        names = [n for n, each in self.agents.items() if each.up and each.standing.id in ids]
        for name in self.random.sample(names, self.random.randint(1, (len(names) - 1) // 2)):
            self.last_mishap = self.now()
            kind = self.random.randrange(4)
            await self.fleet.stop(name)
            if kind == 0 and spare:
                # It stays away.
                spare -= 1
                continue
            if kind == 1:
                self.fleet.wipe(name)
            settings = self.agents[name].settings
            if kind == 2 and spare:
                spare -= 1
                settings = replace(settings, vote=False)
            await asyncio.sleep(self.random.choice([0.5, 10.0, 40.0]))
            self.last_mishap = self.now()
            self.fleet.start(name, settings)

    async def restart_all(self) -> None:
        """Everybody is back, and may vote."""
        for name, agent in self.agents.items():
            if not agent.up or not agent.settings.vote:
                await self.fleet.stop(name)
                self.last_mishap = self.now()
                self.fleet.start(name, replace(agent.settings, vote=True))

    async def mishaps(self, seconds: float, wipes: int = 0) -> None:
        """One after the other; then none is left."""
        until = self.now() + seconds
        names = list(self.agents)
        self.doom = self.random.choice([0.0, 0.8])
        pace = self.random.choice([1.0, 8.0])
        while self.now() < until:
            name = self.random.choice(names)
            self.last_mishap = self.now()
            match self.random.randrange(7):
                case 0 | 1:
                    if not self.agents[name].up:
                        self.fleet.start(name)
                case 2:
                    await self.fleet.stop(name)
                    if wipes and self.random.random() < 0.3:
                        wipes -= 1
                        self.fleet.wipe(name)
                case 3:
                    side = {each for each in names if self.random.random() < 0.5}
                    self.conditions.cut |= {
                        frozenset((one, other))
                        for one, other in combinations(names, 2)
                        if (one in side) != (other in side)
                    }
                case 4:
                    self.conditions.cut.clear()
                case 5:
                    self.conditions.loss = self.random.choice([0.0, 0.2, 0.6])
                    self.conditions.repeats = self.random.choice([0.0, 0.3])
                    self.conditions.latency = (0.0, self.random.choice([0.01, 0.5, 4.0]))
                    self.conditions.news = self.random.choice([0.1, 0.7, 1.0])
                case _:
                    pair = frozenset(self.random.choices(names, k=2))
                    self.conditions.cut ^= {pair}
            await asyncio.sleep(self.random.expovariate(1 / pace))
        self.doom = 0.0
        await self.ended()
        self.conditions.cut.clear()
        self.conditions.loss, self.conditions.news = 0.0, 1.0
        self.conditions.latency = (0.0, 0.05)
        for each in names:
            if not self.agents[each].up:
                self.fleet.start(each)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_one_cluster_is_founded_whatever_happens_meanwhile(tmp_path: Path, seed: int) -> None:
    async def run() -> None:
        chance = Random(seed)
        voters = chance.choice([1, 3, 3, 3, 5])
        # Any two lists of founders have somebody in common.
        size = chance.randint(voters, max(2 * voters - 1, voters))
        wipes = 1 if voters > 1 and size < 2 * voters - 1 else 0
        times = VoterTimes(settle=chance.choice([0.0, 2.0]), stable=5.0, dead=40.0, defer=10.0)
        world = World(tmp_path, seed, size, voters, times)
        async with world.running():
            await world.mishaps(chance.choice([5.0, 30.0, 120.0]), wipes)
            await world.until(lambda: world.settled(voters), 8000)
            assert len(world.alive()) == 1

    run_virtual(run())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_however_many_start_one_after_the_other_they_found_one_cluster(
    tmp_path: Path, seed: int
) -> None:
    async def run() -> None:
        chance = Random(seed)
        voters = chance.choice([1, 3, 5])
        world = World(tmp_path, seed, chance.randint(voters, 12), voters)
        world.conditions.news = chance.choice([0.3, 1.0])
        world.conditions.loss = chance.choice([0.0, 0.3])
        world.conditions.latency = (0.0, chance.choice([0.0, 1.0]))
        names = list(world.agents)
        chance.shuffle(names)
        async with world.running():
            # Before there are two, nobody could tell that it is not alone.
            world.start(*names[:2])
            for name in names[2:]:
                await asyncio.sleep(chance.choice([0.0, 0.5, 3.0, 20.0]))
                world.start(name)
            await world.until(lambda: world.settled(voters), 600)
            assert len(world.clusters.by_id) == 1

    run_virtual(run())


@pytest.mark.parametrize("seed", range(SEEDS // 3))
def test_the_voters_are_kept_whole_while_machines_come_and_go(tmp_path: Path, seed: int) -> None:
    async def run() -> None:
        chance = Random(seed)
        voters = chance.choice([3, 3, 5])
        size = voters + chance.randint(0, 3)
        times = VoterTimes(
            settle=1.0, stable=5.0, dead=15.0, catch_up=10.0, removals=90.0, defer=20.0
        )
        world = World(tmp_path, seed, size, voters, times)
        async with world.running():
            world.start()
            await world.until(lambda: world.settled(voters), 300)
            spare = size - voters
            for _ in range(4):
                await world.lose_a_minority(spare)
                await world.until(lambda: world.settled(voters), 8000)
                await world.restart_all()
                await world.until(lambda: world.settled(voters), 8000)

    run_virtual(run())
