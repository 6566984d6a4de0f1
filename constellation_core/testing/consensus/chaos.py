"""Clients and lease holders at work on voter processes, while a test breaks what it wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import SystemRandom

from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.store import Store
from constellation_core.testing.consensus.contenders import Contenders
from constellation_core.testing.consensus.control import Gone
from constellation_core.testing.consensus.crashes import CrashGroup, VoterProcess
from constellation_core.testing.consensus.linearizability import Kind, check
from constellation_core.testing.consensus.sockets import socket_access
from constellation_core.testing.consensus.store_runs import StoreClient, StoreRun
from constellation_core.testing.waiting import NotInTimeError, until, until_so

PAUSE = 0.02
TIMEOUTS = (0.3, 1.0, 3.0)
KEYS = 8
_SETTLED = 30.0


class Work:
    """What is at work, and what it has seen.

    Attributes:
        group: the voters.
        contenders: who holds a lease in turn; nobody unless there are to be some.
        run: what the clients were told.
    """

    def __init__(self, group: CrashGroup, contenders: Contenders) -> None:
        self.group = group
        self.contenders = contenders
        self.run = StoreRun()
        self._ending = asyncio.Event()
        self._random = SystemRandom()
        # Nobody has written to them before, which the checker takes for granted.
        prefix = self._random.randbytes(4).hex()
        self._keys = [f"{prefix}/{number}" for number in range(KEYS)]
        self._clients: list[asyncio.Task[None]] = []

    @property
    def answered(self) -> int:
        """Calls of clients whose outcome is known."""
        return len(self.run.history) - self.run.unknown

    @property
    def failed(self) -> int:
        """Calls that were not done, or of which it is not known."""
        return self.run.unknown + self.run.refused

    @property
    def writes(self) -> int:
        """Writes that were acknowledged."""
        return sum(
            call.kind is not Kind.GET and call.observed is not None and call.observed.done
            for call in self.run.history
        )

    async def progress(self, more: int = 50, timeout: float = 30) -> None:
        """Wait until so many more calls were answered."""
        goal = self.answered + more
        await until_so(
            lambda: self.answered >= goal, timeout, f"{more} answers\n{self.group.logs()}"
        )

    async def read_all(self, voter: VoterProcess) -> None:
        """Have a new client read all keys, and ask this voter first."""
        async with self._client(self.group.voters.index(voter)) as client:
            await client.read_all()

    async def faults(self) -> list[str]:
        """End the clients, and say what is wrong with what was seen. Nothing may be broken."""
        await self.group.leader()
        self._ending.set()
        await asyncio.gather(*self._clients)
        await self.read_all(self.group.voters[0])
        faults = [*self._ended(), *self.contenders.violations()]
        # Renewals and expiries go on as long as anybody holds a lease, so they end first.
        for name in self.contenders.names:
            await self.contenders.kill(name)
        violation = await asyncio.to_thread(check, self.run.history)
        if violation is not None:
            faults.append(str(violation))
        try:
            await until(self._same, _SETTLED, "equal states")
        except NotInTimeError as error:
            faults.append(str(error))
        return faults

    def begin(self, clients: int) -> None:
        """Let clients work."""
        self._clients = [asyncio.create_task(self._work(number)) for number in range(clients)]

    async def end(self) -> None:
        """End them at once."""
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _work(self, number: int) -> None:
        async with self._client(number) as client:
            await client.work(ending=self._ending)

    @contextlib.asynccontextmanager
    async def _client(self, number: int) -> AsyncIterator[StoreClient]:
        sockets = {each.voter.id: each.control for each in self.group.voters}
        access, caller = socket_access(sockets, number)
        clock = SystemBootClock()
        store = Store(access, Requests(access, clock, self._random), clock, self._random)
        name = f"c{number}-{len(self.run.history)}"
        try:
            yield StoreClient(
                name,
                store,
                clock,
                self._random,
                self.run,
                pause=PAUSE,
                timeouts=TIMEOUTS,
                keys=self._keys,
            )
        finally:
            await caller.close()

    def _ended(self) -> list[str]:
        """Processes that are to run, and do not: who ended by itself is not overlooked."""
        voters = [each.voter.id for each in self.group.voters if not each.runs]
        holders = [name for name in self.contenders.names if not self.contenders.runs(name)]
        return [f"{name} has ended" for name in [*voters, *holders]]

    async def _same(self) -> bool:
        states = set()
        for each in self.group.voters:
            if each.runs:
                try:
                    outcome, state = await self.group.ask(each, "standing")
                except Gone:
                    return False
                states.add(state if outcome == "done" else each.voter.id)
        return len(states) == 1


@contextlib.asynccontextmanager
async def at_work(
    root: Path,
    group: CrashGroup,
    *,
    clients: int = 6,
    holders: int = 2,
    writes: tuple[int, int] = (5, 30),
) -> AsyncIterator[Work]:
    """Start the voters, then clients and holders of a lease; give them when all are at work.

    Args:
        root: where the holders have their files; a folder is made there.
        group: the voters. They are left running.
        clients: how many.
        holders: how many.
        writes: see :class:`~.contenders.Contenders`.
    """
    names = tuple(f"h{number}" for number in range(holders))
    sockets = {each.voter.id: each.control for each in group.voters}
    await group.start()
    await group.leader()
    async with Contenders(root / "holders", sockets, group.times, names, writes) as contenders:
        work = Work(group, contenders)
        work.begin(clients)
        try:
            await work.progress(20)
            if names:
                await contenders.held()
            yield work
        finally:
            await work.end()
