"""Three members and their clients in a process: ``-m benchmarks.consensus_site KIND FOLDER``.

The process stands in a network namespace, if there are any, and its children with it. What it is
asked for comes through ``FOLDER/control``, a Unix socket, which can be reached from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.etcd import EtcdMembers
from benchmarks.members import ROOT, Client, Kind, Members, tried
from benchmarks.our_voters import OurVoters
from benchmarks.usage import usage
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.consensus.control import read_frame, write_frame

_KINDS: Mapping[str, Callable[[], Kind]] = {"ours": OurVoters, "etcd": EtcdMembers}
_KEYS = 100
_VALUE = b"x" * 64
_WARM_UP = 0.5
_ATTEMPT_INTERVAL = 0.02
_LONGEST_ELECTION = 60.0


def make_kind(name: str) -> Kind:
    """``ours`` or ``etcd``."""
    return _KINDS[name]()


class Site:
    """What can be asked for; all arguments and results are MessagePack's."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._name = kind
        self._folder = folder
        self._members = Members(make_kind(kind), folder)
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start the members."""
        await self._members.start()

    async def pids(self) -> dict[str, int]:
        """The members' process ids, by name."""
        return dict(self._members.pids)

    async def log_bytes(self) -> int:
        """Bytes of one member's log on disk."""
        return self._members.kind.log_bytes(self._members.all[0])

    async def load(self, clients: int, seconds: float) -> dict[str, float]:
        """Writes of 64 bytes by so many clients, each one after the other, to who leads."""
        client = await self._members.client(await self._members.leader())
        latencies: list[float] = []

        async def write(number: int, until: float) -> None:
            while (began := time.perf_counter()) < until:
                await client.write(f"load/{number % _KEYS}", _VALUE)
                latencies.append(time.perf_counter() - began)

        async def all_write(duration: float) -> None:
            until = time.perf_counter() + duration
            async with asyncio.TaskGroup() as tasks:
                for number in range(clients):
                    tasks.create_task(write(number, until))

        await all_write(_WARM_UP)
        latencies.clear()
        mine, members = time.process_time(), self._cpu()
        began = time.perf_counter()
        await all_write(seconds)
        took = time.perf_counter() - began
        latencies.sort()
        done = len(latencies)
        return {
            "commits_per_s": done / took,
            "p50_ms": 1000 * median(latencies),
            "p99_ms": 1000 * latencies[int(0.99 * done)],
            "client_cpu_of_a_core": (time.process_time() - mine) / took,
            "members_cpu_ms_per_commit": 1000 * (self._cpu() - members) / done,
        }

    async def election(self) -> float:
        """kill -9 of who leads; seconds until one of the others has committed something."""
        leader = await self._members.leader()
        others = [await self._members.client(name) for name in self._members.pids if name != leader]
        await asyncio.sleep(random.uniform(0.5, 1.5))
        began = time.monotonic()
        await self._members.kill(leader)
        await _committed(others)
        took = time.monotonic() - began
        await self._members.start(leader)
        return took

    async def hold(self, count: int, ttl: int) -> None:
        """Have so many clients hold a lease each, until the end."""
        for number in range(count):
            client = await self._client(self._stack)
            await self._stack.enter_async_context(client.lease(f"held/{number}", ttl))

    async def releases(self, count: int, ttl: int) -> list[float]:
        """Seconds from the end of one client's lease until another has it, so many times."""
        times = []
        async with AsyncExitStack() as stack:
            holder, waiter = await self._client(stack), await self._client(stack)
            for number in range(count):
                name = f"released/{number}"
                async with asyncio.TaskGroup() as tasks, holder.lease(name, ttl):
                    waiting = tasks.create_task(_enter(waiter, name, ttl))
                    await asyncio.sleep(random.uniform(0.3, 0.5))
                    began = time.monotonic()
                times.append(waiting.result() - began)
        return times

    async def crashes(self, count: int, ttl: int, with_leader: bool) -> list[float]:
        """kill -9 of the processes that hold so many leases; seconds until others have them.

        Args:
            count: of processes, with a lease each.
            ttl: seconds.
            with_leader: all are killed at once, and the member that leads with them; otherwise
                one after the other, at any moment between two renewals.
        """
        leader = await self._members.leader()
        async with AsyncExitStack() as stack:
            names = [f"crashed/{time.monotonic_ns()}/{number}" for number in range(count)]
            holders = [await self._holder(stack, name, ttl) for name in names]
            waiter = await self._client(stack)
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(_enter(waiter, name, ttl)) for name in names]
                await asyncio.sleep(1.0)
                moments = [random.uniform(0, ttl / 3) for _ in names]
                if with_leader:
                    moments = [random.uniform(0, ttl / 3)] * count
                    tasks.create_task(self._kill_later(leader, moments[0]))
                killed = [
                    tasks.create_task(_kill_later(holder, moment))
                    for holder, moment in zip(holders, moments, strict=True)
                ]
        if with_leader:
            await self._members.start(leader)
        return [got.result() - end.result() for got, end in zip(waiting, killed, strict=True)]

    async def close(self) -> None:
        """Stop all."""
        await tried(self._stack.aclose, 10.0)
        await self._members.close()

    def _cpu(self) -> float:
        return sum(usage(pid).cpu for pid in self._members.pids.values())

    async def _client(self, stack: AsyncExitStack) -> Client:
        client = await self._members.kind.connect(self._members.all)
        stack.push_async_callback(client.close)
        return client

    async def _holder(
        self, stack: AsyncExitStack, name: str, ttl: int
    ) -> asyncio.subprocess.Process:
        """A process that holds a lease by now."""
        ports = [f"{each.peer_port}:{each.client_port}" for each in self._members.all]
        module = "benchmarks.lease_holder"
        process = await start_child(
            [sys.executable, "-m", module, self._name, name, str(ttl), *ports],
            log_file=self._folder / "holders.log",
            cwd=ROOT,
            pipe=True,
        )
        stack.push_async_callback(stop_child, process, 1.0)
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError((self._folder / "holders.log").read_text()[-2000:])
        return process

    async def _kill_later(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._members.kill(name)


async def _kill_later(process: asyncio.subprocess.Process, seconds: float) -> float:
    await asyncio.sleep(seconds)
    process.kill()
    return time.monotonic()


async def _enter(client: Client, name: str, ttl: int) -> float:
    """When the client got the lease."""
    async with client.lease(name, ttl):
        return time.monotonic()


async def _committed(clients: list[Client]) -> None:
    """Returns when one of these has committed something. A new attempt begins all the time, for
    one that began before the election may be lost, or may wait longer than it has to."""
    done = asyncio.Event()

    async def attempt(client: Client) -> None:
        await client.attempt()
        done.set()

    async with asyncio.timeout(_LONGEST_ELECTION), asyncio.TaskGroup() as tasks:
        attempts = set()
        while not done.is_set():
            for client in clients:
                attempts.add(tasks.create_task(_quietly(attempt(client))))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ATTEMPT_INTERVAL):
                    await done.wait()
        for each in attempts:
            each.cancel()


async def _quietly(work: Awaitable[None]) -> None:
    with contextlib.suppress(Exception):
        await work


async def _serve(site: Site, control: Path) -> None:
    words: Mapping[str, Callable[..., Awaitable[Any]]] = {
        each.__name__: each
        for each in (
            site.start,
            site.pids,
            site.log_bytes,
            site.load,
            site.election,
            site.hold,
            site.releases,
            site.crashes,
            site.close,
        )
    }
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                word, arguments = await read_frame(reader)
                try:
                    answer = [True, await words[word](*arguments)]
                except Exception:  # noqa: BLE001 - it is raised where it was asked for
                    answer = [False, traceback.format_exc()]
                await write_frame(writer, answer)
        ended.set()

    async with await asyncio.start_unix_server(serve, control):
        await ended.wait()


async def _main(kind: str, folder: Path) -> None:
    site = Site(kind, folder)
    try:
        await _serve(site, folder / "control")
    finally:
        await site.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2])))
