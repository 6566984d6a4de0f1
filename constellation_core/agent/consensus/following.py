"""Follows what consensus does, and tells the plugins, the journal and the API of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from constellation_core.agent.bridge import EventBridge
from constellation_core.agent.journal import EventJournal
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.leases import LeaseView
from constellation_core.plugins.context import Clock

log = logging.getLogger("constellation.consensus")

_LOOK = 1.0
"""Seconds between two looks at who leads and what is wrong."""


class ConsensusWatch:
    """What this agent last knew of consensus. Stays what it was while nothing is heard.

    Args:
        backend: what keeps consensus at the moment.
        bridge: tells the plugins and the journal.
        journal: of this agent.
        clock: for pauses, and for since when a lease is held.

    Attributes:
        leases: who holds which lease, by name.
        leader: who leads, if anybody.
    """

    def __init__(
        self,
        backend: Callable[[], ConsensusBackend],
        bridge: EventBridge,
        journal: EventJournal,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._bridge = bridge
        self._journal = journal
        self._clock = clock
        self.leases: Mapping[str, LeaseView] = MappingProxyType({})
        self.leader: str | None = None
        self._since: dict[int, float | None] = {}
        self._following: asyncio.Task[None] | None = None
        self._first = True
        self._available: bool | None = None

    async def follow_leases(self) -> None:
        """Never returns."""
        while True:
            self._following = following = asyncio.create_task(self._follow())
            try:
                await asyncio.wait([following])
            finally:
                following.cancel()
            if not following.cancelled():
                following.result()
            # It never ends by itself; a plugin's may.
            await self._clock.sleep(_LOOK)

    def switched(self) -> None:
        """Another backend has taken the place of the one before."""
        if self._following is not None:
            self._following.cancel()

    async def follow_leader(self) -> None:
        """Never returns."""
        while True:
            self._note(self._backend().describe())
            await self._clock.sleep(_LOOK)

    def rows(self) -> list[dict[str, Any]]:
        """The leases, ready for JSON."""
        now = self._clock.monotonic()
        rows = []
        for name, lease in sorted(self.leases.items()):
            since = self._since.get(lease.epoch)
            rows.append(
                {
                    "name": name,
                    "node": lease.node,
                    "holder": lease.holder,
                    "epoch": lease.epoch,
                    "ttl": lease.ttl,
                    "held": round(now - since, 1) if since is not None else None,
                }
            )
        return rows

    async def _follow(self) -> None:
        async for held in self._backend().leases.watch_all():
            self._note_leases(held)

    def _note_leases(self, held: Mapping[str, LeaseView]) -> None:
        before, self.leases = self.leases, MappingProxyType(dict(held))
        # How long those are held that were held before this agent looked is not known.
        new = None if self._first else self._clock.monotonic()
        self._since = {each.epoch: self._since.get(each.epoch, new) for each in held.values()}
        self._first = False
        for name, lease in before.items():
            now_held = held.get(name)
            if now_held is None or now_held.epoch != lease.epoch:
                self._bridge.lease_lost(name, lease, now_held)
        for name, lease in held.items():
            was_held = before.get(name)
            if was_held is None or was_held.epoch != lease.epoch:
                self._bridge.lease_acquired(name, lease)

    def _note(self, document: Mapping[str, Any]) -> None:
        leader = document["leader"]
        if leader != self.leader:
            previous, self.leader = self.leader, leader
            self._bridge.leader_changed(leader, previous)
        available = document["available"]
        if available is not self._available:
            name, problems = self._backend().name, "; ".join(document["problems"])
            if available:
                self._journal.add("consensus-available", name, "can be used")
                log.info("consensus can be used")
            elif self._available is not None:
                self._journal.add("consensus-unavailable", name, problems)
                log.warning("consensus cannot be used at the moment: %s", problems)
            self._available = available
