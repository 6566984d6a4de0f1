"""What simulated agents agree through: the built-in state on simulated voters, or another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from constellation_core.consensus.access import Access
from constellation_core.consensus.backend import KeyValues, LeaseHolder
from constellation_core.consensus.leases import Leases, LeaseTimes, holder_id
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Query, Space
from constellation_core.consensus.store import Store
from constellation_core.testing.consensus.clients import HostWatchdog
from constellation_core.testing.consensus.group import SimulatedHost
from constellation_core.testing.consensus.world import World


class ClosableLeases(LeaseHolder, Protocol):
    """Leases of one agent, which can end."""

    async def close(self) -> None:
        """End all blocks, and release what they held."""
        ...


class Site(Protocol):
    """On the voters of a world."""

    def store(self, name: str, host: SimulatedHost) -> KeyValues:
        """The store as a client of this name on this machine uses it."""
        ...

    def leases(self, name: str, host: SimulatedHost, times: LeaseTimes) -> ClosableLeases:
        """The leases of an agent of this name on this machine."""
        ...

    def forget(self, name: str) -> None:
        """Nothing more is sent by this client or to it."""
        ...

    def stored(self) -> Mapping[str, bytes]:
        """What stands on the voter ``v1``."""
        ...

    def running(self) -> AbstractAsyncContextManager[asyncio.TaskGroup]:
        """Let the voters do their duties; what is added to the group ends with the block."""
        ...


class VoterSite:
    """The built-in state.

    Args:
        world: the voters' and the network's.
        through: what stands between the clients and the network, to spoil it.
    """

    def __init__(
        self, world: World, through: Callable[[Access], Access] = lambda access: access
    ) -> None:
        self._world = world
        self._through = through

    def store(self, name: str, host: SimulatedHost) -> Store:
        """As the site's."""
        access = self._through(self._world.network.client(name, host))
        random = self._world.random
        return Store(access, Requests(access, host, random), host, random)

    def leases(self, name: str, host: SimulatedHost, times: LeaseTimes) -> Leases:
        """As the site's."""
        access = self._through(self._world.network.client(name, host))
        random = self._world.random
        return Leases(
            access,
            Requests(access, host, random),
            host,
            random,
            HostWatchdog(host),
            holder=holder_id(name, random),
            times=times,
        )

    def forget(self, name: str) -> None:
        """As the site's."""
        self._world.network.forget(name)

    def stored(self) -> Mapping[str, bytes]:
        """As the site's."""
        answer = self._world.group.voters["v1"].state.answer(Query(Space.KEYS, "", exact=False))
        return {entry.key: entry.value for entry in answer.entries}

    def running(self) -> AbstractAsyncContextManager[asyncio.TaskGroup]:
        """As the site's."""
        return self._world.running()
