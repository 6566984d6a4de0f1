"""etcd as the agent's consensus."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from random import Random, SystemRandom
from typing import Any

from constellation_core.consensus.clock import BootClock, SystemBootClock
from constellation_core.consensus.leases import (
    Blocks,
    Lease,
    LeaseTimes,
    LeaseView,
    ThreadWatchdog,
    Watchdog,
    holder_id,
)
from constellation_plugin_etcd.client import EtcdClient
from constellation_plugin_etcd.gateway import HttpGateway
from constellation_plugin_etcd.health import Health, Watch
from constellation_plugin_etcd.leases import EtcdGrants
from constellation_plugin_etcd.store import EtcdStore


class EtcdLeases:
    """A :class:`~constellation_core.consensus.backend.LeaseHolder` on etcd.

    Args:
        client: etcd.
        clock: this machine's boot-time clock.
        random: as of :class:`~.leases.EtcdGrants`.
        watchdog: calls when trust in a lease ends.
        prefix: of all keys of this fleet.
        holder: from :func:`~constellation_core.consensus.leases.holder_id`.
        times: the same on all agents.
    """

    def __init__(
        self,
        client: EtcdClient,
        clock: BootClock,
        random: Random,
        watchdog: Watchdog,
        *,
        prefix: bytes,
        holder: str,
        times: LeaseTimes,
    ) -> None:
        self._grants = EtcdGrants(client, clock, random, prefix=prefix, holder=holder, times=times)
        self._blocks = Blocks(self._grants, clock, random, watchdog, times)

    def hold(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """As :meth:`~constellation_core.consensus.leases.Leases.hold`.

        etcd counts in whole seconds, and takes no less than one and a half of its own elections
        (two seconds by default): a shorter ttl only makes the holder more careful.
        """
        return self._blocks.hold(name, ttl=ttl, wait_out=wait_out, on_lost=on_lost)

    def watch(self, name: str) -> AsyncIterator[LeaseView | None]:
        """As :meth:`~constellation_core.consensus.leases.Leases.watch`."""
        return self._grants.watch(name)

    def watch_all(self) -> AsyncIterator[Mapping[str, LeaseView]]:
        """As :meth:`~constellation_core.consensus.leases.Leases.watch_all`."""
        return self._grants.watch_all()

    async def close(self) -> None:
        """End all blocks and release what they held; what does not end in time expires."""
        await self._blocks.close()


class EtcdBackend:
    """A :class:`~constellation_core.consensus.backend.ConsensusBackend` on an etcd cluster.

    Args:
        gateway: the way to the members.
        node: the agent's name.
        prefix: of all keys of this fleet.
        times: of the leases; the same on all agents.
    """

    def __init__(
        self, gateway: HttpGateway, *, node: str, prefix: str, times: LeaseTimes | None = None
    ) -> None:
        clock, random, keys = SystemBootClock(), SystemRandom(), prefix.encode()
        client = EtcdClient(gateway)
        self._gateway = gateway
        self._watch = Watch(gateway, client, clock, keys)
        self._store = EtcdStore(client, clock, random, keys)
        self._leases = EtcdLeases(
            client,
            clock,
            random,
            ThreadWatchdog(),
            prefix=keys,
            holder=holder_id(node, random),
            times=times or LeaseTimes(),
        )

    @property
    def name(self) -> str:
        """``etcd``."""
        return "etcd"

    @property
    def store(self) -> EtcdStore:
        """Keys and values."""
        return self._store

    @property
    def leases(self) -> EtcdLeases:
        """This agent's leases."""
        return self._leases

    async def run(self) -> None:
        """Keep an eye on the cluster until cancelled, then let go of it."""
        try:
            await self._watch.run()
        except asyncio.CancelledError:
            # Whatever else ended it: it is run again.
            await self._gateway.close()
            raise

    async def close(self) -> None:
        """End all blocks that hold a lease, and release what they held."""
        await self._leases.close()

    async def look(self) -> Health:
        """How the cluster is now."""
        return await self._watch.look()

    def describe(self) -> Mapping[str, Any]:
        """How the cluster was at the latest look, ready for JSON."""
        health = self._watch.health
        return {
            "backend": self.name,
            "available": health.available,
            "leader": health.leader,
            "problems": list(health.problems),
            "members": health.members,
            "endpoints": [dict(endpoint) for endpoint in health.endpoints],
        }


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """What is needed to speak ``https`` with the members, whose certificates are verified.

    Raises:
        OSError: a file cannot be read (``ssl.SSLError`` is one: it holds something else).
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        # A password is asked for on the terminal otherwise, for which an agent would wait.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    return context
