"""One agent: its parts, the order in which they start, and the order in which they stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from constellation_core import __version__
from constellation_core.agent.addresses import advertised, resolve_bind
from constellation_core.agent.bridge import EventBridge
from constellation_core.agent.clock import SystemClock
from constellation_core.agent.consensus.keeping import AgentConsensus, Surroundings
from constellation_core.agent.consensus.tags import TAG
from constellation_core.agent.data_dir import DataDir
from constellation_core.agent.discovery import Discovery
from constellation_core.agent.interfaces import HostAddresses
from constellation_core.agent.journal import EventJournal
from constellation_core.agent.logs import FleetLogs
from constellation_core.agent.plugin_context import AgentParts
from constellation_core.agent.plugins_start import PluginSet
from constellation_core.agent.services_file import ServicesFile
from constellation_core.agent.view import AgentView
from constellation_core.api.server import ApiConfig, ApiServer
from constellation_core.catalog import Catalog, CatalogConfig, node_of, with_epoch
from constellation_core.config import ClusterKey, FileSecrets, Loaded, read_secret_file
from constellation_core.gossip import (
    EventKind,
    Gossip,
    GossipConfig,
    Keyring,
    MemberEvent,
    encode_tags,
)
from constellation_core.gossip.member import BORN_TAG, is_everywhere
from constellation_core.model.node import Node
from constellation_core.model.service import Service
from constellation_core.plugins.delivery import EventDelivery
from constellation_core.plugins.discovery import installed_plugins
from constellation_core.plugins.guard import CANCEL_GRACE, cancel_all
from constellation_core.plugins.manager import PluginManager
from constellation_core.plugins.tasks import Supervisor
from constellation_core.workloads import LocalWorkloads

log = logging.getLogger("constellation.agent")

_GOSSIP_KEY = "constellation gossip v1"


class Agent:
    """An agent that is about to run.

    Args:
        loaded: its settings.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        settings = loaded.settings
        self._settings = settings
        self._stop = asyncio.Event()
        self._rng = Random()
        self.clock = SystemClock()
        self.data_dir = DataDir(settings.agent.data_dir)
        self.journal = EventJournal(self.clock)
        self.supervisor = Supervisor(self.clock)
        self.manager = PluginManager()
        self.plugins = PluginSet(self.manager)
        self.delivery = EventDelivery(self.manager)
        self.bridge = EventBridge(self.delivery, self.journal)
        self.consensus = AgentConsensus(
            self.manager, self.supervisor, self.bridge, self.journal, self.clock
        )
        self._born = 0
        self._own_addresses: HostAddresses | None = None
        self._workloads: LocalWorkloads | None = None

    def shut_down(self) -> None:
        """Begin an orderly end; :meth:`run` returns after it."""
        self._stop.set()

    async def run(self) -> None:
        """Run until :meth:`shut_down`.

        Raises:
            DataDirError, SecretError, GossipBindError, ApiBindError, AdvertiseError: when the
                agent cannot start; the text says what to do.
        """
        settings = self._settings
        key = ClusterKey.read(settings.gossip.key_file) if settings.gossip.encryption else None
        token = _read_token(self._loaded)
        async with AsyncExitStack() as stack:
            stack.enter_context(self.data_dir.locked())
            stack.enter_context(self.manager.stalls.installed())
            self.manager.on_failed = self._plugin_failed
            self.manager.load(settings.plugins.enabled, installed_plugins())
            self.consensus.note_keepers()
            configs = self.plugins.configure(self._loaded)

            stack.push_async_callback(self.supervisor.close)
            stack.push_async_callback(self.delivery.close)
            gossip, catalog = self._make_gossip(key)
            await gossip.start()
            stack.push_async_callback(gossip.close)
            stack.push_async_callback(gossip.leave)

            self._workloads = workloads = LocalWorkloads(
                settings.agent.name,
                gossip.local.address[0],
                settings.agent.domain,
                catalog,
                self._choose_driver,
            )
            services = ServicesFile(settings.agent.services, workloads)
            logs = FleetLogs(gossip, catalog, workloads)
            logs.serve()
            discovery = Discovery(
                gossip,
                catalog,
                [str(seed) for seed in settings.gossip.join],
                self.plugins.sources,
                self.data_dir,
                self.clock,
                settings.gossip.bind.port,
                self._own_addresses,
                lambda seed: self.journal.add(
                    "wrong-key", seed, "has another cluster key; this node stays out"
                ),
            )
            view = AgentView(
                self._loaded, self, gossip, catalog, workloads, services, discovery, logs, key
            )
            api = ApiServer(
                ApiConfig(
                    settings.api.bind.host,
                    settings.api.bind.port,
                    settings.api.socket,
                    int(settings.api.socket_mode, 8),
                    token,
                ),
                view,
            )
            self.plugins.make_contexts(configs, self._parts(gossip, catalog, workloads))
            around = Surroundings(
                settings,
                key,
                gossip,
                discovery,
                self.data_dir,
                lambda text: _set_tag(gossip, TAG, text),
            )
            self.consensus.choose(around, self.plugins.contexts)
            self.plugins.contribute(api, workloads)
            await api.start()
            stack.push_async_callback(api.close)
            _set_tag(gossip, "api", _api_tag(api.address))
            # While others still know this node, and nothing of a plugin holds a lease any more.
            stack.push_async_callback(self.consensus.stop)
            stack.push_async_callback(self._end_plugin_tasks)
            self.consensus.start()

            catalog.subscribe(self.bridge.on_catalog)
            self.supervisor.spawn("core", "discovery", discovery.run)
            stack.push_async_callback(self.plugins.stop)
            stack.push_async_callback(workloads.close)
            await self._unless_stopped(
                self.plugins.start(lambda name: self._plugin_started(name, catalog))
            )
            if self._stop.is_set():
                return
            view.started = True
            log.info(
                "%s runs: gossip on %s:%d, API on http://%s:%d and %s",
                settings.agent.name,
                *gossip.local.address,
                *api.address,
                settings.api.socket,
            )
            self.supervisor.spawn("core", "services-file", services.load_first)
            await self._stop.wait()
            log.info("%s stops", settings.agent.name)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Await ``work``, but no longer than until this agent is told to stop."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await cancel_all([task, stop], grace=2 * CANCEL_GRACE)

    def _make_gossip(self, key: ClusterKey | None) -> tuple[Gossip, Catalog]:
        settings = self._settings.gossip
        name = self._settings.agent.name
        bind = resolve_bind(settings.bind)
        own = HostAddresses()
        if settings.advertise is None and is_everywhere(bind[0]):
            self._own_addresses = own
        self._born = epoch = self.data_dir.next_epoch(self.clock.time())
        holder: list[Gossip] = []

        def new_epoch(changed: int) -> None:
            try:
                self.data_dir.save_epoch(changed)
            except OSError as error:
                # The next life finds its traces again, and asks the others once more.
                log.warning("cannot write to %s: %s", self.data_dir.path, error.strerror)
            tags = dict(holder[0].local.tags)
            holder[0].set_meta(encode_tags(with_epoch(tags, changed)))

        shared = self._settings.catalog
        catalog = Catalog(
            name,
            epoch,
            self._rng,
            CatalogConfig(
                bytes_per_second=shared.bytes_per_second,
                burst=2 * shared.bytes_per_second,
                damping=shared.damping,
            ),
            on_event=self._on_member,
            on_epoch=new_epoch,
            wall=self.clock.time,
        )
        gossip = Gossip(
            GossipConfig(
                name,
                probe_interval=settings.probe_interval,
                probe_timeout=settings.probe_timeout,
                indirect_checks=settings.indirect_probes,
                suspicion_multiplier=settings.suspicion_multiplier,
                gossip_interval=settings.gossip_interval,
                gossip_nodes=settings.gossip_nodes,
                push_pull_interval=settings.push_pull_interval,
                rejoin_interval=settings.rejoin_interval,
                forget_dead=settings.forget_dead,
            ),
            bind=bind,
            advertise=advertised(bind, settings.advertise, own),
            may_advertise=own.may_advertise if self._own_addresses is not None else None,
            keyring=Keyring([key.derive(_GOSSIP_KEY)]) if key is not None else None,
            delegate=catalog,
            meta=encode_tags(self._tags(epoch)),
            incarnation=epoch,
            rng=self._rng,
        )
        holder.append(gossip)
        return gossip, catalog

    def _tags(self, epoch: int) -> dict[str, str]:
        tags = {"version": __version__, BORN_TAG: f"{self._born:x}"}
        if self._settings.agent.region:
            tags["region"] = self._settings.agent.region
        return with_epoch(tags, epoch)

    def _parts(self, gossip: Gossip, catalog: Catalog, workloads: LocalWorkloads) -> AgentParts:
        def local_node() -> Node:
            return node_of(gossip.local)

        return AgentParts(
            clock=self.clock,
            catalog=catalog,
            local=workloads,
            secrets=FileSecrets(self._settings.agent.secrets_path),
            domain=self._settings.agent.domain,
            data_dir=self.data_dir.path,
            local_node=local_node,
            supervisor=self.supervisor,
            manager=self.manager,
            consensus=lambda: self.consensus.backend,
        )

    def _on_member(self, event: MemberEvent) -> None:
        local, before = event.member, event.previous
        if (
            self._workloads is not None
            and before is not None
            and local.name == self._settings.agent.name == before.name
            and event.kind is EventKind.UPDATED
        ):
            self._workloads.move(local.address[0])
        self.bridge.on_member(event)

    def _plugin_started(self, name: str, catalog: Catalog) -> None:
        self.delivery.open(name)
        watch = self.consensus.watch
        self.bridge.introduce(name, catalog, watch.leases, watch.leader)

    def _plugin_failed(self, name: str, reason: str) -> None:
        self.journal.add("plugin-failed", name, reason)
        # What it left running is ended; its routes and driver stay, and answer with errors.
        self.supervisor.spawn("core", f"end-of-{name}", lambda: self._end_plugin(name))

    async def _end_plugin(self, name: str) -> None:
        await self.delivery.drop(name)
        await self.consensus.plugin_failed(name)
        await self.supervisor.cancel(name)

    async def _end_plugin_tasks(self) -> None:
        await asyncio.gather(*map(self.supervisor.cancel, self.manager.active))

    def _choose_driver(self, service: Service, drivers: Sequence[str]) -> str | None:
        answer = self.manager.decide("choose_driver", service=service, drivers=list(drivers))
        return str(answer[1]) if answer is not None else None


def _set_tag(gossip: Gossip, name: str, text: str) -> None:
    gossip.set_meta(encode_tags({**gossip.local.tags, name: text}))


def _api_tag(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_token(loaded: Loaded) -> str | None:
    api = loaded.settings.api
    if not api.control or api.token_file is None:
        return None
    return read_secret_file(api.token_file).decode(errors="replace").strip()
