"""Three processes that agree, of ours or of etcd: what a benchmark of consensus needs of both."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until

T = TypeVar("T")

HOST = "127.0.0.1"
NAMES = ("a", "b", "c")
ROOT = Path(__file__).parents[1]
_START_LIMIT = 60.0
_STOP_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Member:
    """One of the three.

    Attributes:
        name: of the member.
        peer_port: on which the others reach it.
        client_port: on which clients do.
        folder: for its files; it exists.
    """

    name: str
    peer_port: int
    client_port: int
    folder: Path


class Client(Protocol):
    """A connection of a client. What fails raises an exception of whatever kind."""

    async def write(self, key: str, value: bytes) -> None:
        """Returns when it is acknowledged."""

    async def attempt(self) -> None:
        """Have something committed, at once or not at all."""

    async def status(self) -> tuple[str | None, int]:
        """Who leads in the member's eyes, by name; and the index up to which it has applied."""

    def lease(self, name: str, ttl: int) -> AbstractAsyncContextManager[object]:
        """Entering waits for the lease, which is kept until leaving releases it."""

    async def close(self) -> None:
        """End the connection."""


class Kind(Protocol):
    """How members are set up, run and spoken to."""

    def prepare(self, members: Sequence[Member]) -> None:
        """Write what they need before their first start."""

    def command(self, member: Member) -> list[str | Path]:
        """The command line that runs a member, at its first start and later."""

    async def connect(self, members: Sequence[Member], name: str | None = None) -> Client:
        """A client of one member; of whichever answers, without a name."""

    def log_bytes(self, member: Member) -> int:
        """Bytes in a member's log on disk."""


class Members:
    """Three members of a kind. No process remains after :meth:`close`.

    Args:
        kind: of what.
        folder: for their files.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        ports = PortPicker(HOST)
        self.kind = kind
        self.all = tuple(Member(name, ports.pick(), ports.pick(), folder / name) for name in NAMES)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._clients: dict[str, Client] = {}
        for each in self.all:
            each.folder.mkdir(parents=True)
        kind.prepare(self.all)

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._processes.items()}

    async def start(self, *names: str) -> None:
        """Start members, by default all, and wait until all have a leader and come equally far."""
        for each in self.all:
            if each.name in (names or NAMES):
                self._processes[each.name] = await start_child(
                    self.kind.command(each), log_file=each.folder / "log", cwd=ROOT
                )
        await until(self._whole, _START_LIMIT, "all members to agree", interval=0.1)

    async def kill(self, *names: str) -> None:
        """kill -9, without waiting for anything."""
        for name in names:
            self._processes[name].send_signal(signal.SIGKILL)
        for name in names:
            await self._processes.pop(name).wait()
            await self._clients.pop(name).close()

    async def leader(self) -> str:
        """Who leads, as all say."""
        leader = await until(self._whole, _START_LIMIT, "all members to agree", interval=0.1)
        return leader or ""

    async def client(self, name: str) -> Client:
        """A client of this member, which stays until the member is killed."""
        if name not in self._clients:
            self._clients[name] = await self.kind.connect(self.all, name)
        return self._clients[name]

    async def close(self) -> None:
        """Stop all."""
        for client in self._clients.values():
            await client.close()
        for process in self._processes.values():
            await stop_child(process, _STOP_GRACE)

    async def _whole(self) -> str | None:
        views = []
        for name in self._processes:
            view = await tried(partial(self._status, name))
            if view is None:
                return None
            views.append(view)
        leaders, indexes = zip(*views, strict=True)
        same = len(set(leaders)) == 1 and len(set(indexes)) == 1 and len(views) == len(NAMES)
        return leaders[0] if same and leaders[0] in self._processes else None

    async def _status(self, name: str) -> tuple[str | None, int]:
        return await (await self.client(name)).status()


async def tried(call: Callable[[], Awaitable[T]], timeout: float = 2.0) -> T | None:
    """What ``call`` gives, or ``None`` when it fails or takes too long."""
    try:
        async with asyncio.timeout(timeout):
            return await call()
    except Exception:  # noqa: BLE001 - each client has exceptions of its own
        return None
