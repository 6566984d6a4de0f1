"""The context that an agent gives to a plugin."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constellation_core.consensus.backend import ConsensusBackend, KeyValues, LeaseHolder
from constellation_core.consensus.leases import Lease
from constellation_core.model.node import Node
from constellation_core.plugins.context import CatalogView, Clock, LocalInstances, Secrets
from constellation_core.plugins.manager import PluginManager
from constellation_core.plugins.tasks import Supervisor


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What of the agent all plugins share."""

    clock: Clock
    catalog: CatalogView
    local: LocalInstances
    secrets: Secrets
    domain: str
    data_dir: Path
    local_node: Callable[[], Node]
    supervisor: Supervisor
    manager: PluginManager
    consensus: Callable[[], ConsensusBackend]


class AgentPluginContext:
    """Fulfils :class:`~constellation_core.plugins.context.PluginContext` for one plugin."""

    def __init__(self, name: str, config: Any, parts: AgentParts) -> None:
        self.name = name
        self.config = config
        self.log = logging.getLogger(f"constellation.plugins.{name}")
        self.clock = parts.clock
        self.catalog = parts.catalog
        self.local = parts.local
        self.secrets = parts.secrets
        self.domain = parts.domain
        self._parts = parts

    @property
    def node(self) -> Node:
        """The local node, as the membership has it now."""
        return self._parts.local_node()

    @property
    def data_dir(self) -> Path:
        """The plugin's own folder."""
        folder = self._parts.data_dir / "plugins" / self.name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    @property
    def store(self) -> KeyValues:
        """Keys and values of the fleet."""
        return self._parts.consensus().store

    @property
    def leases(self) -> LeaseHolder:
        """Leases of this agent."""
        return self._parts.consensus().leases

    def lease(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """A block that runs while this agent, and in it this block alone, holds the lease."""
        return self.leases.hold(name, ttl=ttl, wait_out=wait_out, on_lost=on_lost)

    def spawn(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Run a supervised background task."""
        stalls = self._parts.manager.stalls

        async def watched() -> None:
            with stalls.watching():
                work = function()
            await stalls.watched(work)

        self._parts.supervisor.spawn(self.name, name, watched if callable(function) else function)

    def call_hook(self, hook: str, /, **arguments: Any) -> Mapping[str, Any]:
        """Call a hook that this plugin defined."""
        return self._parts.manager.call_extension(hook, **arguments)
