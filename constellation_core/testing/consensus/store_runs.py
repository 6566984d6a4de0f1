"""Clients that read, write and compare while everything fails."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from constellation_core.consensus.access import Access
from constellation_core.consensus.backend import KeyValues
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import Unavailable, Unknown
from constellation_core.consensus.store import CompareFailed
from constellation_core.testing.consensus.linearizability import NEVER, Call, Kind, Observation
from constellation_core.testing.consensus.sites import Site, VoterSite
from constellation_core.testing.consensus.world import SHORT_TIMES, World
from constellation_core.testing.waiting import NotInTimeError, until_so


@dataclass(slots=True)
class StoreRun:
    """What a run of clients of the store gave.

    Attributes:
        history: for :func:`~.linearizability.check`.
        unknown: how many outcomes are unknown.
        refused: how many calls were not done, as far as one was told.
        watched: what a watcher saw last, by key.
        stored: what stands on the leader in the end.
    """

    history: list[Call] = field(default_factory=list)
    unknown: int = 0
    refused: int = 0
    watched: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)


async def store_run(
    seed: int,
    *,
    clients: int = 4,
    calls: int = 40,
    through: Callable[[Access], Access] = lambda access: access,
    honest: bool = True,
    site: Callable[[World], Site] | None = None,
) -> StoreRun:
    """Clients read, write and compare while voters and links fail.

    Args:
        seed: of all chance.
        clients: how many.
        calls: of each client.
        through: what stands between the clients and the network, to spoil it.
        honest: see :class:`~.clients.LinkConditions`.
        site: what stands on the voters, instead of the built-in state.
    """
    world = World(seed, SHORT_TIMES)
    world.network.conditions.honest = honest
    on = site(world) if site else VoterSite(world, through)
    run = StoreRun()

    async with on.running() as tasks:
        watching = tasks.create_task(_watch(on.store("watcher", world.host()), run))
        breaking = tasks.create_task(world.break_things(1e9, ()))
        work: list[Coroutine[Any, Any, None]] = []
        for number in range(clients):
            # One of them is a voter itself.
            host = world.group.voters["v2"].host if number == 0 else world.host()
            client = StoreClient(
                f"c{number}", on.store(f"c{number}", host), host, world.random, run
            )
            work.append(client.work(calls))
        async with asyncio.TaskGroup() as working:
            for each in work:
                working.create_task(each)
        breaking.cancel()
        await world.break_things(0, ())

        def caught_up() -> bool:
            # Late copies of requests may change it even now.
            run.stored = dict(on.stored())
            return run.watched == run.stored

        with contextlib.suppress(NotInTimeError):
            await until_so(caught_up, 90, "the watcher's view")
        watching.cancel()
    return run


async def _watch(store: KeyValues, run: StoreRun) -> None:
    async for changes in store.watch(""):
        for key in changes.gone:
            del run.watched[key]
        run.watched.update({entry.key: entry.value for entry in changes.entries})


class StoreClient:
    """Reads, writes and compares what it chooses by chance, and notes what it was told.

    Args:
        name: tells it from the others.
        store: its own.
        clock: for the waits between its calls.
        random: all chance.
        run: where it notes it.
        pause: seconds between two calls, on average.
        timeouts: seconds, of which each call gets one.
        keys: that it uses.
    """

    def __init__(
        self,
        name: str,
        store: KeyValues,
        clock: BootClock,
        random: Random,
        run: StoreRun,
        *,
        pause: float = 0.5,
        timeouts: Sequence[float] = (0.5, 2.0, 8.0),
        keys: Sequence[str] = "xyz",
    ) -> None:
        self._name = name
        self._store = store
        self._clock = clock
        self._random = random
        self._run = run
        self._pause = pause
        self._timeouts = timeouts
        self._keys = keys
        self._revisions: dict[str, int] = {}

    async def work(self, calls: float = math.inf, ending: asyncio.Event | None = None) -> None:
        """Make so many calls, or go on until ``ending``."""
        number = 0
        while number < calls and not (ending is not None and ending.is_set()):
            await self._call(f"{self._name}-{number}".encode())
            await self._clock.sleep(self._random.expovariate(1 / self._pause))
            number += 1

    async def read_all(self) -> None:
        """Read every key, all at once."""
        async with asyncio.TaskGroup() as tasks:
            for key in self._keys:
                call = self._asked(key, Kind.GET, b"", None)
                tasks.create_task(self._note(call, max(self._timeouts)))

    async def _call(self, value: bytes) -> None:
        key = self._random.choice(self._keys)
        kind = self._random.choice([Kind.GET, Kind.PUT, Kind.PUT, Kind.DELETE])
        expected = None
        if kind is not Kind.GET and self._random.random() < 0.6:
            expected = self._revisions.get(key, 0)
            # To delete what is not there on condition that it is not makes no sense.
            kind = Kind.PUT if expected == 0 else kind
        call = self._asked(key, kind, value, expected)
        await self._note(call, self._random.choice(self._timeouts))

    def _asked(self, key: str, kind: Kind, value: bytes, expected: int | None) -> Call:
        now = asyncio.get_running_loop().time()
        return Call(self._name, key, kind, now, NEVER, value, expected)

    async def _note(self, call: Call, timeout: float) -> None:
        try:
            observed = await self._observe(call, timeout)
        except Unavailable:
            # It was promised that nothing was done: the history is to hold without it.
            self._run.refused += 1
            return
        except Unknown:
            self._run.unknown += 1
        else:
            if observed.revision is not None:
                self._revisions[call.key] = observed.revision
            now = asyncio.get_running_loop().time()
            call = replace(call, returned=now, observed=observed)
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
