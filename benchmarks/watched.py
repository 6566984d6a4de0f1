"""Clusters of gossiping processes that say what they see, a line for each change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.waiting import until

_STOP_GRACE = 5.0
_START_LIMIT = 60.0

_GONE = {"failed", "left", "forgotten"}

Command = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a line tells.

    Attributes:
        kind: ``alive``, ``failed``, ``left``, ``forgotten``; ``ready``: the node runs; what else
            there is, is only passed on.
        member: of whom.
    """

    kind: str
    member: str


class Nodes(Protocol):
    """How the nodes of a cluster are started, and how their lines are read."""

    def command(
        self, name: str, bind: str, control: str, seeds: Sequence[str], folder: Path
    ) -> list[str | Path]:
        """Write what a node needs; the command line that runs it.

        Args:
            name: of the node.
            bind: ``HOST:PORT`` of its gossip.
            control: another free ``HOST:PORT`` for it.
            seeds: ``HOST:PORT`` of nodes that run.
            folder: for its files.
        """

    def read(self, line: str) -> Sight | None:
        """What a line tells, if anything."""


@dataclass(slots=True)
class Watched:
    """One process.

    Attributes:
        process: it.
        alive: whom it holds to be alive, itself included.
        failed: each verdict of death, with its time in seconds of the monotonic clock.
        ready: whether it runs.
    """

    process: asyncio.subprocess.Process
    alive: set[str]
    failed: list[tuple[str, float]] = field(default_factory=list)
    ready: bool = False
    reader: asyncio.Task[None] | None = None


class WatchedCluster:
    """Processes by name; all are stopped by :meth:`close`.

    Args:
        nodes: what they are.
        addresses: gossip address and another free address of each.
        folder: for their files.
        place: changes a command line so that it runs where the node belongs.
    """

    def __init__(
        self,
        nodes: Nodes,
        addresses: dict[str, tuple[str, str]],
        folder: Path,
        place: Callable[[str, Command], Command] = lambda _, argv: argv,
    ) -> None:
        self._nodes = nodes
        self._addresses = addresses
        self._folder = folder
        self._place = place
        self._seed = next(iter(addresses))
        self.running: dict[str, Watched] = {}
        self.killed: dict[str, float] = {}
        self.false_failures: list[tuple[str, str]] = []
        """Who declared whom dead, of those that were alive and not cut off."""
        self.judge: Callable[[str, str], bool] = lambda _observer, _member: True
        """Whether the first may not declare the second dead, when that one runs."""
        self.on_sight: Callable[[str, Sight, float], None] = lambda _o, _s, _t: None
        """Called with observer, what it saw, and when."""

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: node.process.pid for name, node in self.running.items()}

    def log_file(self, name: str) -> Path:
        """What a node writes to standard error."""
        return self._folder / f"{name}.log"

    async def start_all(self) -> float:
        """Start one after the other; seconds from the last launch until all see all."""
        launched = 0.0
        for name in self._addresses:
            launched = time.monotonic()
            await self.start(name)
        await self.wait_until_whole()
        return time.monotonic() - launched

    async def start(self, name: str) -> None:
        """Start one, and wait until it runs."""
        await self._launch(name)
        node = self.running[name]
        await until(lambda: _true(node.ready), _START_LIMIT, f"{name} to run", interval=0.02)

    async def kill(self, name: str) -> float:
        """SIGKILL one; when that was."""
        node = self.running.pop(name)
        self.killed[name] = now = time.monotonic()
        node.process.kill()
        await _end(node)
        return now

    async def close(self) -> None:
        """Stop all."""
        running, self.running = self.running, {}
        # What they say of each other while they end is of no interest.
        self.judge = lambda _observer, _member: False
        async with asyncio.TaskGroup() as group:
            for node in running.values():
                group.create_task(stop_child(node.process, _STOP_GRACE))
        for node in running.values():
            await _end(node)

    def all_see(self, names: Iterable[str]) -> bool:
        """Whether each of those that run holds exactly these to be alive."""
        wanted = set(names)
        return all(node.alive == wanted for node in self.running.values())

    async def wait_until_whole(self, limit: float = 120.0) -> None:
        """Wait until all that run see each other and nobody else."""

        async def whole() -> bool:
            return self.all_see(self.running)

        def explain() -> str:
            wanted = set(self.running)
            return "; ".join(
                f"{name} sees {len(node.alive)} of {len(wanted)}"
                for name, node in self.running.items()
                if node.alive != wanted
            )

        await until(whole, limit, "a whole view", interval=0.02, explain=explain)

    async def noticed(self, name: str, since: float, limit: float = 120.0) -> list[float]:
        """Wait until all declared ``name`` dead; after how many seconds each did."""

        def verdicts() -> list[float]:
            return [
                min(times)
                for node in self.running.values()
                if (times := [at - since for who, at in node.failed if who == name and at > since])
            ]

        async def by_all() -> bool:
            return len(verdicts()) == len(self.running)

        await until(by_all, limit, f"all to notice the end of {name}", interval=0.05)
        return sorted(verdicts())

    async def _launch(self, name: str) -> None:
        bind, control = self._addresses[name]
        seeds = [self._addresses[self._seed][0]] if name != self._seed else []
        argv = self._nodes.command(name, bind, control, seeds, self._folder)
        process = await start_child(
            self._place(name, argv), log_file=self.log_file(name), pipe=True
        )
        node = Watched(process, {name})
        self.running[name] = node
        self.killed.pop(name, None)
        node.reader = asyncio.create_task(self._read(name, node))

    async def _read(self, name: str, node: Watched) -> None:
        assert node.process.stdout is not None
        while line := await node.process.stdout.readline():
            sight = self._nodes.read(line.decode(errors="replace"))
            if sight is not None:
                self._note(name, node, sight, time.monotonic())

    def _note(self, name: str, node: Watched, sight: Sight, now: float) -> None:
        if sight.kind == "ready":
            node.ready = True
        elif sight.kind == "alive":
            node.alive.add(sight.member)
        elif sight.kind in _GONE:
            node.alive.discard(sight.member)
            if sight.kind == "failed":
                node.failed.append((sight.member, now))
                alive = sight.member in self.running and name in self.running
                if alive and self.judge(name, sight.member):
                    self.false_failures.append((name, sight.member))
        self.on_sight(name, sight, now)


async def _end(node: Watched) -> None:
    await node.process.wait()
    if node.reader is not None:
        await node.reader


async def _true(value: bool) -> bool:
    return value
