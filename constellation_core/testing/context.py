"""A plugin's context without an agent, for unit tests of plugins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from constellation_core.consensus.leases import Lease
from constellation_core.model.node import Node
from constellation_core.testing.catalog import FakeCatalog
from constellation_core.testing.consensus.memory import MemoryConsensus
from constellation_core.testing.local import FakeLocalInstances, FakeSecrets
from constellation_core.testing.manual_clock import ManualClock


class FakeContext:
    """A :class:`~constellation_core.plugins.context.PluginContext` that a test fills by hand::

        context = FakeContext("hello", config=HelloConfig(greeting="Hi"))
        await hello.start(context)
        async with context.running():
            await context.clock.advance(10)

    Args:
        name: the plugin's name.
        config: what ``context.config`` is: an instance of the plugin's config model.
        domain: ``[agent] domain``.
        data_dir: the plugin's folder, usually pytest's ``tmp_path``; without it, asking for
            ``context.data_dir`` is an error.
        node: the local node's name.
        consensus: shared by the contexts of one test that agree with each other; its clock is
            theirs. Without it this context is alone.

    Attributes:
        catalog: a :class:`FakeCatalog`, empty and warm.
        local: a :class:`FakeLocalInstances`, empty.
        secrets: a :class:`FakeSecrets`, empty.
        clock: a :class:`ManualClock`.
        node: the local node.
        consensus: what :attr:`store` and leases are kept by.
        store: keys and values in memory.
        leases: in memory, held by :attr:`node`.
        spawned: what the plugin gave to :meth:`spawn`, by name; run by :meth:`running`.
        hook_calls: ``(hook, arguments)`` of every :meth:`call_hook`.
        hook_answers: what :meth:`call_hook` answers, by hook; nothing for other hooks.
    """

    def __init__(
        self,
        name: str = "test",
        *,
        config: Any = None,
        domain: str = "example.com",
        data_dir: Path | None = None,
        node: str = "node-a",
        consensus: MemoryConsensus | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.domain = domain
        self.log = logging.getLogger(f"constellation.plugins.{name}")
        self.node = Node(node, "127.0.0.1", 7946)
        self.consensus = consensus or MemoryConsensus()
        self.clock: ManualClock = self.consensus.clock
        backend = self.consensus.agent(node)
        self.store = backend.store
        self.leases = backend.leases
        self.catalog = FakeCatalog()
        self.local = FakeLocalInstances()
        self.secrets = FakeSecrets()
        self.spawned: dict[str, Callable[[], Awaitable[None]]] = {}
        self.hook_calls: list[tuple[str, dict[str, Any]]] = []
        self.hook_answers: dict[str, Mapping[str, Any]] = {}
        self._data_dir = data_dir
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def data_dir(self) -> Path:
        """The folder given to the constructor."""
        if self._data_dir is None:
            raise RuntimeError("the plugin asks for its data_dir: FakeContext(data_dir=tmp_path)")
        self._data_dir.mkdir(parents=True, exist_ok=True)
        return self._data_dir

    def lease(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """A block that holds a lease, among the contexts that share :attr:`consensus`."""
        return self.leases.hold(name, ttl=ttl, wait_out=wait_out, on_lost=on_lost)

    def spawn(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Note the task. It runs only within :meth:`running`."""
        if name in self.spawned:
            raise ValueError(f"{self.name} has a task named {name!r} already")
        self.spawned[name] = function
        if self._group is not None:
            self._begin(self._group, name)

    def call_hook(self, hook: str, /, **arguments: Any) -> Mapping[str, Any]:
        """Note the call and give the test's answer."""
        self.hook_calls.append((hook, arguments))
        return self.hook_answers.get(hook, {})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run what was and what will be spawned; cancel it at the end.

        A task that raises ends the test: unlike in an agent, it is not started again.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for name in list(self.spawned):
                    self._begin(group, name)
                yield
            finally:
                self._group = None
                for task in self._tasks:
                    task.cancel()
                self._tasks.clear()

    def _begin(self, group: asyncio.TaskGroup, name: str) -> None:
        function = self.spawned[name]

        async def run() -> None:
            await function()

        self._tasks.append(group.create_task(run(), name=f"{self.name}:{name}"))
