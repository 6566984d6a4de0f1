"""Runs of leases and of the store under everything that may go wrong, by chance from a seed.

Nothing is judged here: a run gives its history, which :mod:`.lease_history` and
:mod:`.linearizability` judge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from constellation_core.consensus.access import Access
from constellation_core.consensus.interface import Unavailable, Unknown
from constellation_core.consensus.leases import Lease, LeaseLost, Leases, LeaseTimes, holder_id
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.store import CompareFailed, Store
from constellation_core.testing.lease_history import Claim, FencedSink, Write
from constellation_core.testing.linearizability import NEVER, Call, Kind, Observation
from constellation_core.testing.simulated_clients import ClientNetwork, HostWatchdog
from constellation_core.testing.simulated_consensus import SimulatedGroup, SimulatedHost
from constellation_core.testing.waiting import NotInTimeError, until_so

MOST_DRIFT = 0.01
"""Share by which simulated clocks run fast or slow."""

SHORT_TIMES = LeaseTimes(ttl=6.0, gather=0.2)
"""So that much happens in little simulated time."""

LEASE = "dns-writer"


class World:
    """Voters, a network, and what breaks them.

    Args:
        seed: of all chance.
        times: of the leases.
    """

    def __init__(self, seed: int, times: LeaseTimes) -> None:
        self.random = Random(seed)
        self.group = SimulatedGroup(self.random, {f"v{n}": self.host() for n in (1, 2, 3)})
        self.network = ClientNetwork(self.group, times)
        self.group.elect("v1")

    def host(self) -> SimulatedHost:
        """A machine whose clock shows anything and is a little wrong."""
        rate = 1 + self.random.uniform(-MOST_DRIFT, MOST_DRIFT)
        return SimulatedHost(rate, self.random.uniform(0, 1e6))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Let the voters do their duties; what is added to the group ends with the block."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(server.duties.run()) for server in self.network.servers.values()
            ]
            yield tasks
            for task in running:
                task.cancel()
            await self.network.close()

    async def break_things(self, seconds: float, extra: tuple[Callable[[], None], ...]) -> None:
        """One mishap after the other for that long, then none is left."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        mishaps: list[Callable[[], None]] = [
            self._elect,
            self._lose_leader,
            self._pause_voter,
            self._stop_voter,
            self._restart_voter,
            self._spoil_network,
            self._mend_network,
            *extra,
        ]
        while loop.time() < until:
            self.random.choice(mishaps)()
            await asyncio.sleep(self.random.expovariate(1 / 4.0))
        self._mend_network()
        self.network.conditions.cut = frozenset()
        for voter in self.group.voters.values():
            voter.host.resume()
            voter.up = True
        self.group.elect("v1")

    def later(self, least: float, most: float, what: Callable[[], object]) -> None:
        """Do ``what`` after a while."""
        delay = self.random.uniform(least, most)
        asyncio.get_running_loop().call_later(delay, what)

    def _elect(self) -> None:
        self.group.elect(self.random.choice(list(self.group.voters)))

    def _lose_leader(self) -> None:
        self.group.elect(None)
        self.later(0.1, 5, self._elect)

    def _pause_voter(self) -> None:
        voter = self.random.choice(list(self.group.voters.values()))
        voter.host.pause()
        self.later(0.1, 15, voter.host.resume)
        if voter is self.group.leader:
            self.later(0.5, 3, self._elect)

    def _stop_voter(self) -> None:
        voter = self.random.choice(list(self.group.voters.values()))
        voter.up = False
        self.later(0.1, 5, lambda: setattr(voter, "up", True))
        if voter is self.group.leader:
            self.later(0.5, 3, self._elect)

    def _restart_voter(self) -> None:
        state = self.random.choice(list(self.group.voters.values())).state
        state.restore(state.snapshot())

    def _spoil_network(self) -> None:
        conditions = self.network.conditions
        conditions.loss = self.random.choice([0.05, 0.2, 0.5])
        conditions.duplication = self.random.choice([0.0, 0.2, 0.5])
        conditions.stalls = self.random.choice([0.0, 0.02, 0.2])
        conditions.latency = (0.0005, self.random.choice([0.01, 0.3, 1.5]))

    def _mend_network(self) -> None:
        cut = self.network.conditions.cut
        self.network.conditions = replace(type(self.network.conditions)(), cut=cut)


@dataclass(slots=True)
class LeaseRun:
    """What a run of leases gave.

    Attributes:
        events: for :func:`~.lease_history.violations`.
        entered: how often a block was entered.
        lost: how often one lost its lease.
        late: writes that the sink refused.
        healed: whether the lease was taken again when nothing was broken any more.
    """

    events: list[Claim | Write] = field(default_factory=list)
    entered: int = 0
    lost: int = 0
    late: int = 0
    healed: bool = False


class _Agent:
    """One process that wants the lease again and again, and writes to the sink under it."""

    def __init__(self, run: LeaseRun, world: World, name: str, times: LeaseTimes) -> None:
        self.name = name
        self.host = world.host()
        self.lease: Lease | None = None
        self.epoch = 0
        self._run = run
        self._random = world.random
        access = world.network.client(name, self.host)
        self.holder = holder_id(name, self._random)
        self.leases = Leases(
            access,
            Requests(access, self.host, self._random),
            self.host,
            self._random,
            HostWatchdog(self.host),
            holder=self.holder,
            times=times,
        )

    def claim(self) -> None:
        """Note that the lease is held, if the agent would say so were it asked now."""
        if self.lease is not None and self.lease.remaining > 0:
            now = asyncio.get_running_loop().time()
            self._run.events.append(Claim(now, self.holder, self.epoch))

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
            await asyncio.sleep(self._random.choice([0.001, 0.3]))
            await self.host.gate()
            self._run.late += not sink.write(loop.time(), self.holder, epoch)
            await self.host.sleep(self._random.uniform(0.01, 1))
        if self._random.random() < 0.1:
            raise ValueError("the body failed")


async def lease_run(
    seed: int,
    *,
    seconds: float = 120.0,
    times: LeaseTimes = SHORT_TIMES,
    leader_times: LeaseTimes | None = None,
) -> LeaseRun:
    """Agents contend for a lease while voters, links and the agents themselves fail.

    Args:
        seed: of all chance.
        seconds: for which things break.
        times: of the leases.
        leader_times: what the leader believes, where that is to be something else.
    """
    world = World(seed, leader_times or times)
    run, sink = LeaseRun(), FencedSink()
    agents: list[_Agent] = []
    working: dict[str, asyncio.Task[None]] = {}

    async with world.running() as tasks:

        def begin(number: int, life: int) -> None:
            agent = _Agent(run, world, f"a{number}.{life}", times)
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
                _kill(world, agent, agents, working)
                number, life = agent.name[1:].split(".")
                world.later(0.1, times.ttl, lambda: begin(int(number), int(life) + 1))

        for number in (1, 2, 3):
            begin(number, 1)
        watching = tasks.create_task(_claim_often(agents))
        await world.break_things(seconds, (pause, pause, pause, cut, kill))
        for agent in agents:
            agent.host.resume()
        entered = run.entered
        await asyncio.sleep(6 * times.ttl)
        run.healed = run.entered > entered
        watching.cancel()
        await _finish(agents, working)
    run.events += sink.events
    return run


def _kill(
    world: World, agent: _Agent, agents: list[_Agent], working: dict[str, asyncio.Task[None]]
) -> None:
    """End it without a word: what it still says on its way out reaches nobody."""
    world.network.forget(agent.name)
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


@dataclass(slots=True)
class StoreRun:
    """What a run of clients of the store gave.

    Attributes:
        history: for :func:`~.linearizability.check`.
        unknown: how many outcomes are unknown.
        watched: what a watcher saw last, by key.
        stored: what stands there in the end.
    """

    history: list[Call] = field(default_factory=list)
    unknown: int = 0
    watched: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)


async def store_run(
    seed: int,
    *,
    clients: int = 4,
    calls: int = 40,
    through: Callable[[Access], Access] = lambda access: access,
) -> StoreRun:
    """Clients read, write and compare while voters and links fail.

    Args:
        seed: of all chance.
        clients: how many.
        calls: of each client.
        through: what stands between the clients and the network, to spoil it.
    """
    world = World(seed, SHORT_TIMES)
    run = StoreRun()

    def store(name: str, host: SimulatedHost) -> Store:
        access = through(world.network.client(name, host))
        return Store(access, Requests(access, host, world.random), host, world.random)

    async with world.running() as tasks:
        watching = tasks.create_task(_watch(store("watcher", world.host()), run))
        breaking = tasks.create_task(world.break_things(1e9, ()))
        work: list[Coroutine[Any, Any, None]] = []
        for number in range(clients):
            host = world.host()
            client = _Client(f"c{number}", store(f"c{number}", host), host, world.random, run)
            work.append(client.work(calls))
        async with asyncio.TaskGroup() as working:
            for each in work:
                working.create_task(each)
        breaking.cancel()
        await world.break_things(0, ())
        last = store("last", world.host())
        run.stored = {entry.key: entry.value for entry in await last.list("", timeout=60)}
        with contextlib.suppress(NotInTimeError):
            await until_so(lambda: run.watched == run.stored, 90, "the watcher's view")
        watching.cancel()
    return run


async def _watch(store: Store, run: StoreRun) -> None:
    async for changes in store.watch(""):
        for key in changes.gone:
            del run.watched[key]
        run.watched.update({entry.key: entry.value for entry in changes.entries})


class _Client:
    def __init__(
        self, name: str, store: Store, host: SimulatedHost, random: Random, run: StoreRun
    ) -> None:
        self._name = name
        self._store = store
        self._host = host
        self._random = random
        self._run = run
        self._revisions: dict[str, int] = {}

    async def work(self, calls: int) -> None:
        for number in range(calls):
            await self._call(f"{self._name}-{number}".encode())
            await self._host.sleep(self._random.expovariate(1 / 0.5))

    async def _call(self, value: bytes) -> None:
        key = self._random.choice("xyz")
        kind = self._random.choice([Kind.GET, Kind.PUT, Kind.PUT, Kind.DELETE])
        expected = None
        if kind is not Kind.GET and self._random.random() < 0.6:
            expected = self._revisions.get(key, 0)
            # To delete what is not there on condition that it is not makes no sense.
            kind = Kind.PUT if expected == 0 else kind
        loop = asyncio.get_running_loop()
        call = Call(self._name, key, kind, loop.time(), NEVER, value, expected)
        try:
            observed = await self._observe(call, self._random.choice([0.5, 2.0, 8.0]))
        except Unavailable:
            # It was promised that nothing was done: the history is to hold without it.
            return
        except Unknown:
            self._run.unknown += 1
        else:
            if observed.revision is not None:
                self._revisions[key] = observed.revision
            call = replace(call, returned=loop.time(), observed=observed)
        self._run.history.append(call)

    async def _observe(self, call: Call, timeout: float) -> Observation:
        value = call.value or b""
        try:
            match call.kind:
                case Kind.GET:
                    entry = await self._store.get(call.key, timeout=timeout)
                    return Observation(*((entry.revision, entry.value) if entry else (0, None)))
                case Kind.DELETE:
                    await self._store.delete(call.key, expected=call.expected, timeout=timeout)
                    return Observation()
                case Kind.PUT if call.expected is None:
                    return Observation(await self._store.put(call.key, value, timeout=timeout))
                case Kind.PUT:
                    revision = await self._store.compare_and_set(
                        call.key, value, call.expected or 0, timeout=timeout
                    )
                    return Observation(revision)
        except CompareFailed as error:
            return Observation(error.revision, done=False)
