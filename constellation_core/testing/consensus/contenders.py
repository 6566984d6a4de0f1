"""Processes that contend for a lease, and the sink that they write to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack

from constellation_core.consensus.leases import LeaseTimes
from constellation_core.testing.child import start_child
from constellation_core.testing.consensus.control import serving
from constellation_core.testing.consensus.lease_history import Claim, FencedSink, violations
from constellation_core.testing.waiting import until_so


@dataclass(frozen=True, slots=True)
class Entry:
    """A holder's block began."""

    at: float
    holder: str
    epoch: int


class Contenders:
    """Holders of one lease. Use as an async context manager: no process remains.

    Args:
        root: an empty directory.
        voters: their sockets, by id.
        times: of the leases.
        names: of the holders.
        writes: how often one writes before it lets go, at least and at most.

    Attributes:
        entered: each time that one got the lease.
        lost: how often one was told that it lost it.
        sink: what they write to; it fences.
    """

    def __init__(
        self,
        root: Path,
        voters: Mapping[str, Path],
        times: LeaseTimes,
        names: tuple[str, ...],
        writes: tuple[int, int] = (5, 30),
    ) -> None:
        self.names = names
        self.entered: list[Entry] = []
        self.lost = 0
        self.sink = FencedSink()
        self._root = root
        self._voters = voters
        self._times = times
        self._writes = writes
        self._claims: list[Claim] = []
        self._orders: dict[str, list[str]] = {name: [] for name in names}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Contenders:
        self._root.mkdir()
        await self._stack.enter_async_context(serving(self._root / "sink", self._answer))
        for name in self.names:
            await self.start(name)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for name in list(self._processes):
            await self.kill(name)
        await self._stack.aclose()

    async def start(self, name: str) -> None:
        """Start a holder; after a kill, as another one."""
        path = self._root / f"{name}.json"
        settings = {
            "name": name,
            "voters": {voter: str(socket) for voter, socket in self._voters.items()},
            "sink": str(self._root / "sink"),
            "times": asdict(self._times),
            "writes": self._writes,
            "first": self.names.index(name),
        }
        path.write_text(json.dumps(settings))
        module = "constellation_core.testing.consensus.holder"
        self._processes[name] = await start_child(
            [sys.executable, "-m", module, path], log_file=self._root / f"{name}.log"
        )

    async def kill(self, name: str) -> None:
        """kill -9."""
        process = self._processes.pop(name)
        self._orders[name].clear()
        if process.returncode is None:
            process.kill()
        await process.wait()

    def pause(self, name: str) -> None:
        """Stop it where it stands."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def order(self, name: str, order: str) -> None:
        """Have it obeyed between the holder's next claim and its write; see :mod:`.holder`."""
        self._orders[name].append(order)

    def take_back(self, name: str, order: str) -> None:
        """Have an order not obeyed that was not obeyed yet."""
        self._orders[name] = [each for each in self._orders[name] if each != order]

    def runs(self, name: str) -> bool:
        """Whether its process lives."""
        process = self._processes.get(name)
        return process is not None and process.returncode is None

    async def paused(self, name: str, timeout: float = 20) -> None:
        """Wait until it is stopped."""
        stat = Path(f"/proc/{self._processes[name].pid}/stat")

        def stopped() -> bool:
            return stat.read_text().rpartition(")")[2].split()[0] == "T"

        await until_so(stopped, timeout, f"{name} to be stopped")

    async def held(self, timeout: float = 20, *, after: int = 0) -> Entry:
        """Wait until somebody has the lease with an epoch above this one, and has written."""

        def found() -> bool:
            return self.sink.epoch > after and self.entered[-1].epoch == self.sink.epoch

        await until_so(found, timeout, f"a holder after epoch {after}\n{self.logs()}")
        return self.entered[-1]

    async def claimed(self, at: float, timeout: float = 30) -> None:
        """Wait until somebody was sure of the lease at this time of the monotonic clock."""
        what = f"a claim {at:.1f}\n{self.logs()}"
        await until_so(lambda: self._claims and self._claims[-1].at >= at, timeout, what)

    @property
    def refused(self) -> int:
        """How many writes the sink refused."""
        return sum(not write.accepted for write in self.sink.events)

    def violations(self) -> list[str]:
        """What is wrong with what happened."""
        return violations([*self._claims, *self.sink.events])

    def logs(self) -> str:
        """The end of every holder's log."""
        texts = {name: (self._root / f"{name}.log").read_text()[-1500:] for name in self.names}
        return "\n".join(f"--- {name}\n{text}" for name, text in texts.items())

    async def _answer(self, word: str, value: bytes) -> list[Any]:
        holder, epoch, at = msgpack.unpackb(value)
        now = time.monotonic()
        match word:
            case "entered":
                self.entered.append(Entry(now, holder, epoch))
            case "lost":
                self.lost += 1
            case "write":
                self.sink.write(now, holder, epoch)
            case "claim":
                self._claims.append(Claim(at, holder, epoch))
            case "about to write":
                self._claims.append(Claim(at, holder, epoch))
                name = holder.partition("/")[0]
                orders, self._orders[name] = self._orders[name], []
                return ["done", orders]
        return ["done", []]
