"""Finds the cluster: configured seeds, peer sources of plugins, nodes of an earlier life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from constellation_core.agent.data_dir import DataDir
from constellation_core.agent.interfaces import HostAddresses
from constellation_core.catalog import Catalog
from constellation_core.gossip import Address, Gossip, JoinResult
from constellation_core.gossip.echo import choose_address
from constellation_core.model.node import NodeState
from constellation_core.peers import PeerSource
from constellation_core.plugins.context import Clock
from constellation_core.plugins.guard import bounded, explain

log = logging.getLogger("constellation.discovery")

_SOURCE_TIMEOUT = 10.0
_FIRST_RETRY = 1.0
_LONGEST_RETRY = 15.0
_SAVE_EVERY = 10.0


class Discovery:
    """Joins, keeps trying while this node is alone, and remembers whom it met.

    Args:
        gossip: the membership.
        catalog: told when this node is alone by its settings.
        seeds: ``[gossip] join``.
        sources: of plugins.
        data_dir: where peers are remembered.
        clock: time.
        default_port: for addresses of sources that name none.
        own_addresses: of this host, when it is to find out which of them to tell others.
        on_wrong_key: told of seeds that have another cluster key.
    """

    def __init__(
        self,
        gossip: Gossip,
        catalog: Catalog,
        seeds: Sequence[str],
        sources: Sequence[PeerSource],
        data_dir: DataDir,
        clock: Clock,
        default_port: int,
        own_addresses: HostAddresses | None,
        on_wrong_key: Callable[[str], None],
    ) -> None:
        self._gossip = gossip
        self._catalog = catalog
        self._seeds = seeds
        self._sources = sources
        self._data_dir = data_dir
        self._clock = clock
        self._default_port = default_port
        self._on_wrong_key = on_wrong_key
        self._own_addresses = own_addresses
        self._saved: set[Address] = set()
        self.address_warning = ""
        self.results: dict[str, JoinResult] = {}
        self._tried = asyncio.Event()

    @property
    def told_of_others(self) -> bool:
        """Whether the settings name other nodes, or plugins that know of some."""
        host, port = self._gossip.local.address
        own = f"{_literal(host)}:{port}"
        return bool(self._sources) or any(seed != own for seed in self._seeds)

    async def first_attempt(self, limit: float) -> None:
        """Wait until it was tried once to find others, but not longer than ``limit`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._tried.wait()

    async def run(self) -> None:
        """Join until it works, and again whenever this node is alone; never returns."""
        remembered = self._data_dir.peers() - {self._gossip.local.address}
        self._saved = set(remembered)
        if not self._seeds and not self._sources and not remembered:
            log.info("no other node is configured or remembered: this node is the first one")
            self._catalog.assume_warm()
        self._gossip.remember(remembered)
        first = {f"{_literal(host)}:{port}" for host, port in remembered}
        wait = _FIRST_RETRY
        while True:
            if self._alone():
                await self._try(first)
                wait = min(_LONGEST_RETRY, wait * 2) if self._alone() else _FIRST_RETRY
            self._tried.set()
            self._save()
            await self._clock.sleep(wait if self._alone() else _SAVE_EVERY)

    def _alone(self) -> bool:
        local = self._gossip.local.name
        return not any(m.online and m.name != local for m in self._gossip.members())

    async def _try(self, remembered: set[str]) -> None:
        await self._join([*self._seeds, *sorted(remembered)])
        # Asked last: a source that hangs must not keep this node from those it knows.
        if self._sources and self._alone():
            await self._join(await self._from_sources())

    async def _join(self, addresses: Sequence[str]) -> None:
        own = f"{_literal(self._gossip.local.address[0])}:{self._gossip.local.address[1]}"
        candidates = [each for each in dict.fromkeys(addresses) if each != own]
        if self._own_addresses is not None and len(self._gossip.members()) == 1:
            await self._find_address(candidates, self._own_addresses)
        for result in await self._gossip.join(candidates):
            self._note(result)

    async def _find_address(self, peers: Sequence[str], own: HostAddresses) -> None:
        """Ask those whom this node is about to join where they see it."""
        echoes = await self._gossip.ask_echo(peers)
        guess = self._gossip.local.address[0]
        choice = choose_address(guess, echoes, own.may_advertise)
        if choice.warning and choice.warning != self.address_warning:
            log.warning("%s", choice.warning)
        self.address_warning = choice.warning
        if choice.host != guess and len(self._gossip.members()) == 1:
            log.info("peers see this node at %s: this is the address they are told", choice.host)
            self._gossip.advertise(choice.host)

    def _note(self, result: JoinResult) -> None:
        before = self.results.get(result.seed)
        self.results[result.seed] = result
        if result.joined:
            log.info("joined the cluster through %s", result.seed)
        elif before is None or before.reason != result.reason:
            # Said once, not at every attempt.
            level = logging.ERROR if result.wrong_key else logging.WARNING
            log.log(level, "cannot join through %s: %s", result.seed, result.reason)
            if result.wrong_key:
                self._on_wrong_key(result.seed)

    async def _from_sources(self) -> list[str]:
        found: list[str] = []
        answers = await asyncio.gather(*(self._ask(source) for source in self._sources))
        for answer in answers:
            found += answer
        return found

    async def _ask(self, source: PeerSource) -> list[str]:
        async def peers() -> list[str]:
            return [self._with_port(peer) for peer in await source.peers()]

        try:
            return await bounded(peers(), _SOURCE_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - a plugin's source may raise anything
            log.warning("peer source %s failed: %s", source.name, explain(error))
            return []

    def _with_port(self, peer: str) -> str:
        if peer.startswith("["):
            return peer if "]:" in peer else f"{peer}:{self._default_port}"
        if peer.count(":") == 1:
            return peer
        return f"{_literal(peer)}:{self._default_port}"

    def _save(self) -> None:
        local = self._gossip.local.name
        others = [m for m in self._gossip.members() if m.name != local]
        # The dead too: they may be on the other side of a partition that outlasts this process.
        peers = {m.address for m in others if m.state is not NodeState.LEFT}
        # An empty view is no news: it is what a node that was cut off sees.
        if any(m.online for m in others) and peers != self._saved:
            try:
                self._data_dir.save_peers(peers)
            except OSError as error:
                log.warning("cannot remember the other nodes: %s", error.strerror)
            else:
                self._saved = peers


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host
