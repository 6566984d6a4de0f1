"""An agent's consensus: which backend keeps it, its start, and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from constellation_core.agent.addresses import resolve_bind
from constellation_core.agent.bridge import EventBridge
from constellation_core.agent.consensus.absent import AbsentConsensus
from constellation_core.agent.consensus.brought import BroughtConsensus
from constellation_core.agent.consensus.following import ConsensusWatch
from constellation_core.agent.consensus.raft import RaftConsensus, RaftSettings
from constellation_core.agent.data_dir import DataDir
from constellation_core.agent.discovery import Discovery
from constellation_core.agent.journal import EventJournal
from constellation_core.config import ClusterKey, Settings
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.voters.settings import VoterTimes
from constellation_core.gossip import Gossip
from constellation_core.gossip.member import is_everywhere
from constellation_core.plugins.context import Clock
from constellation_core.plugins.guard import explain
from constellation_core.plugins.manager import PluginManager
from constellation_core.plugins.tasks import Supervisor

log = logging.getLogger("constellation.consensus")

_KEY = "constellation consensus v1"
_OWNER, _TASK = "consensus", "backend"
_HOOK = "consensus_backend"
_ADDRESS_WAIT = 5.0
"""Seconds to wait at most for the first peers to say where they see this node."""

_NO_KEY = (
    "without [gossip] encryption there is no cluster key, so there is no consensus: nothing can "
    "be leased or stored; set encryption = true on every node"
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the agent its consensus needs.

    Attributes:
        settings: the agent's.
        key: the cluster key; ``None`` without encryption.
        gossip: the membership.
        discovery: finds the others, and this node's address.
        data_dir: the agent's.
        tell: takes the text of the consensus tag.
    """

    settings: Settings
    key: ClusterKey | None
    gossip: Gossip
    discovery: Discovery
    data_dir: DataDir
    tell: Callable[[str], None]


class AgentConsensus:
    """Keeps an agent's consensus. Before :meth:`choose` there is none.

    Args:
        manager: the plugins.
        supervisor: runs what is to go on.
        bridge: tells of what happens.
        journal: of the agent.
        clock: for pauses.

    Attributes:
        backend: what keeps consensus at the moment.
        watch: what was last known of it.
    """

    def __init__(
        self,
        manager: PluginManager,
        supervisor: Supervisor,
        bridge: EventBridge,
        journal: EventJournal,
        clock: Clock,
    ) -> None:
        self._manager = manager
        self._supervisor = supervisor
        self.backend: ConsensusBackend = AbsentConsensus("consensus has not started yet")
        self.watch = ConsensusWatch(lambda: self.backend, bridge, journal, clock)
        self._keepers: set[str] = set()

    def note_keepers(self) -> None:
        """Note which plugins would keep consensus, before any of them can fail for its settings."""
        self._keepers = {
            name for name in self._manager.active if self._manager.implements(name, _HOOK)
        }

    def choose(self, around: Surroundings, contexts: Mapping[str, Any]) -> None:
        """Take the backend that a plugin brings, or else the built-in one.

        Args:
            around: the agent.
            contexts: of the plugins, by name, in their order.
        """
        self.backend = (
            self._brought(contexts) or self._missing(around.data_dir) or _built_in(around)
        )
        if isinstance(self.backend, BroughtConsensus):
            _remember(around.data_dir, self.backend.plugin)
            # So that nobody founds something beside it.
            around.tell(self.backend.name)
        elif isinstance(self.backend, RaftConsensus):
            _remember(around.data_dir, "")

    def start(self) -> None:
        """Have it going, and follow it."""
        self._supervisor.spawn(_OWNER, _TASK, self.backend.run)
        self._supervisor.spawn(_OWNER, "leases", self.watch.follow_leases)
        self._supervisor.spawn(_OWNER, "leader", self.watch.follow_leader)

    async def stop(self) -> None:
        """Release what is held, and end it."""
        await self.backend.close()
        await self._supervisor.cancel(_OWNER)

    async def plugin_failed(self, name: str) -> None:
        """A plugin is out of use. If it has kept consensus, there is none any more."""
        backend = self.backend
        if isinstance(backend, BroughtConsensus) and backend.plugin == name:
            self.backend = AbsentConsensus(f"plugin {name}, which keeps consensus, has failed")
            self.watch.switched()
            await backend.close()
            await self._supervisor.cancel(_OWNER, _TASK)

    def _brought(self, contexts: Mapping[str, Any]) -> BroughtConsensus | None:
        found: BroughtConsensus | None = None
        for name, context in contexts.items():
            brought = self._manager.contribute(name, _HOOK, context=context)
            if brought is None:
                continue
            if found is not None:
                self._manager.fail(name, f"plugin {found.plugin} keeps consensus already")
                continue
            try:
                found = BroughtConsensus(name, brought, self._manager)
            except Exception as error:  # noqa: BLE001 - a plugin may return anything
                reason = f"what {_HOOK} returned cannot be used: {explain(error)}"
                self._manager.fail(name, reason)
        return found

    def _missing(self, data_dir: DataDir) -> ConsensusBackend | None:
        """Nothing, because of a plugin that should keep consensus, or did, and has failed."""
        keepers = self._keepers | {data_dir.consensus_plugin()}
        for state in self._manager.states():
            if state.failed and state.name in keepers:
                return AbsentConsensus(
                    f"plugin {state.name}, which should keep consensus, has failed"
                )
        return None


def _remember(data_dir: DataDir, plugin: str) -> None:
    if data_dir.consensus_plugin() == plugin:
        return
    try:
        data_dir.save_consensus_plugin(plugin)
    except OSError as error:
        log.warning("cannot write to %s: %s", data_dir.path, error.strerror)


def _built_in(around: Surroundings) -> ConsensusBackend:
    settings, gossip = around.settings.consensus, around.gossip
    if around.key is None:
        log.warning("%s", _NO_KEY)
        return AbsentConsensus(_NO_KEY)
    bind = resolve_bind(settings.bind)
    guessed = settings.advertise is None and is_everywhere(bind[0])

    def address() -> str:
        if settings.advertise is not None:
            told = settings.advertise
            return _literal(told.host, told.port or bind[1])
        return _literal(gossip.local.address[0] if guessed else bind[0], bind[1])

    async def address_found() -> None:
        if guessed:
            await around.discovery.first_attempt(_ADDRESS_WAIT)

    return RaftConsensus(
        RaftSettings(
            around.data_dir.path / "consensus",
            bind,
            around.key.derive(_KEY),
            around.settings.agent.region,
            settings.voters,
            settings.vote,
            VoterTimes(
                settle=settings.settle,
                stable=settings.stable_after,
                dead=settings.replace_after,
                catch_up=settings.catch_up,
            ),
        ),
        gossip,
        SystemBootClock(),
        address,
        address_found,
        lambda: around.discovery.told_of_others,
        around.tell,
    )


def _literal(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
