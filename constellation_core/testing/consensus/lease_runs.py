"""Agents that contend for a lease while everything fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from constellation_core.consensus.leases import Lease, LeaseLost, LeaseTimes
from constellation_core.testing.consensus.lease_history import Claim, FencedSink, Write
from constellation_core.testing.consensus.sites import Site, VoterSite
from constellation_core.testing.consensus.world import SHORT_TIMES, World

LEASE = "dns-writer"


@dataclass(slots=True)
class LeaseRun:
    """What a run of leases gave.

    Attributes:
        events: for :func:`~.lease_history.violations`.
        entered: how often a block was entered.
        lost: how often one lost its lease.
        late: writes that the sink refused.
        healed: whether the lease is in use when nothing was broken any more for a while.
    """

    events: list[Claim | Write] = field(default_factory=list)
    entered: int = 0
    lost: int = 0
    late: int = 0
    healed: bool = False


class _Agent:
    """One process that wants the lease again and again, and writes to the sink under it."""

    def __init__(
        self, run: LeaseRun, world: World, site: Site, name: str, times: LeaseTimes
    ) -> None:
        self.name = name
        self.host = world.host()
        self.lease: Lease | None = None
        self.epoch = 0
        self._run = run
        self._random = world.random
        self.leases = site.leases(name, self.host, times)

    def claim(self) -> None:
        """Note that the lease is held, if the agent would say so were it asked now."""
        if self.lease is not None and self.lease.remaining > 0:
            now = asyncio.get_running_loop().time()
            self._run.events.append(Claim(now, self.name, self.epoch))

    async def work(self, sink: FencedSink) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(LeaseLost, ValueError):
                async with self.leases.hold(LEASE) as lease:
                    self._run.entered += 1
                    self.lease, self.epoch = lease, lease.epoch
                    try:
                        await self._write(lease, sink)
                    finally:
                        self._run.lost += lease.remaining <= 0
                        self.lease = None
            await self.host.sleep(self._random.expovariate(1 / 2.0))

    async def _write(self, lease: Lease, sink: FencedSink) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._random.randint(1, 40)):
            lease.check()
            self.claim()
            epoch = lease.epoch
            # From here on it may stand still for any time, and write all the same.
            await asyncio.sleep(self._random.choice([0.001, 1.0]))
            await self.host.gate()
            self._run.late += not sink.write(loop.time(), self.name, epoch)
            await self.host.sleep(self._random.uniform(0.01, 0.7))
        if self._random.random() < 0.1:
            raise ValueError("the body failed")


async def lease_run(
    seed: int,
    *,
    seconds: float = 120.0,
    times: LeaseTimes = SHORT_TIMES,
    leader_times: LeaseTimes | None = None,
    site: Callable[[World], Site] = VoterSite,
) -> LeaseRun:
    """Agents contend for a lease while voters, links and the agents themselves fail.

    Args:
        seed: of all chance.
        seconds: for which things break.
        times: of the leases.
        leader_times: what the leader believes, where that is to be something else.
        site: what stands on the voters.
    """
    world = World(seed, leader_times or times)
    on = site(world)
    run, sink = LeaseRun(), FencedSink()
    agents: list[_Agent] = []
    working: dict[str, asyncio.Task[None]] = {}

    async with on.running() as tasks:

        def begin(number: int, life: int) -> None:
            agent = _Agent(run, world, on, f"a{number}.{life}", times)
            agents.append(agent)
            working[agent.name] = tasks.create_task(agent.work(sink))

        def pause() -> None:
            agent = world.random.choice(agents)
            agent.host.pause()
            world.later(0.1, 3 * times.ttl, agent.host.resume)

        def cut() -> None:
            conditions = world.network.conditions
            conditions.cut = frozenset({world.random.choice(agents).name})
            world.later(0.1, 2 * times.ttl, lambda: setattr(conditions, "cut", frozenset()))

        def kill() -> None:
            agent = world.random.choice(agents)
            # Whoever was killed comes back later, and there is always one at least.
            if len(agents) > 1:
                _kill(on, agent, agents, working)
                number, life = agent.name[1:].split(".")
                world.later(0.1, times.ttl, lambda: begin(int(number), int(life) + 1))

        for number in (1, 2, 3):
            begin(number, 1)
        watching = tasks.create_task(_claim_often(agents))
        await world.break_things(seconds, (pause, pause, pause, cut, kill))
        for agent in agents:
            agent.host.resume()
        await asyncio.sleep(6 * times.ttl)
        recently = asyncio.get_running_loop().time() - 2 * times.ttl
        run.healed = any(event.at > recently for event in run.events)
        watching.cancel()
        await _finish(agents, working)
    run.events += sink.events
    return run


def _kill(
    site: Site, agent: _Agent, agents: list[_Agent], working: dict[str, asyncio.Task[None]]
) -> None:
    """End it without a word: what it still says on its way out reaches nobody."""
    site.forget(agent.name)
    agent.lease = None
    working.pop(agent.name).cancel()
    agents.remove(agent)


async def _claim_often(agents: list[_Agent]) -> None:
    while True:
        for agent in agents:
            agent.claim()
        await asyncio.sleep(0.3)


async def _finish(agents: list[_Agent], working: dict[str, asyncio.Task[None]]) -> None:
    for task in working.values():
        task.cancel()
    await asyncio.wait(working.values())
    for agent in agents:
        await agent.leases.close()
