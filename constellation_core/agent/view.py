"""What the API shows of an agent."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from constellation_core import __version__
from constellation_core.agent import verify
from constellation_core.agent.consensus.checks import ClockRates
from constellation_core.agent.consensus.following import ConsensusWatch
from constellation_core.agent.consensus.raft import RaftConsensus
from constellation_core.agent.discovery import Discovery
from constellation_core.agent.journal import EventJournal
from constellation_core.agent.logs import FleetLogs, Lines
from constellation_core.agent.services_file import ServicesFile
from constellation_core.api.errors import RefusedError
from constellation_core.catalog import Catalog
from constellation_core.config import ClusterKey, Loaded
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.interface import Unavailable
from constellation_core.gossip import Address, Gossip, Member, Path, Tally
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.node import NodeState
from constellation_core.plugins.listing import list_plugins
from constellation_core.workloads import LocalWorkloads, ServicesError

if TYPE_CHECKING:
    from constellation_core.agent.agent import Agent

_RECENT = 300.0
"""Seconds for which gossip with another key counts as a present problem."""


class AgentView:
    """Fulfils :class:`constellation_core.api.backend.Backend`."""

    def __init__(
        self,
        loaded: Loaded,
        agent: Agent,
        gossip: Gossip,
        catalog: Catalog,
        workloads: LocalWorkloads,
        services: ServicesFile,
        discovery: Discovery,
        logs: FleetLogs,
        key: ClusterKey | None,
    ) -> None:
        self.loaded = loaded
        self.gossip = gossip
        self.catalog = catalog
        self.workloads = workloads
        self.services_file = services
        self.discovery = discovery
        self.key = key
        self._logs = logs
        self.started = False
        self._agent = agent
        self._began = agent.clock.monotonic()
        self.clock_rates = ClockRates()

    @property
    def journal(self) -> EventJournal:
        """Recent events."""
        return self._agent.journal

    def not_ready(self) -> Sequence[str]:
        """Why this agent is not ready; empty when it is."""
        reasons = []
        if not self.started:
            reasons.append("the plugins are not started yet")
        if not self.catalog.warm:
            reasons.append("no other node has sent its catalog yet")
        if not self.services_file.applied:
            reasons.append("the services of this node are not started yet")
        return reasons

    def status(self) -> Mapping[str, Any]:
        """This agent and its cluster, on one page."""
        members = self.gossip.members()
        settings = self.loaded.settings
        reasons = list(self.not_ready())
        instances = self.catalog.instances()
        return {
            "node": settings.agent.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(self._agent.clock.monotonic() - self._began, 1),
            "region": settings.agent.region,
            "config": str(self.loaded.path),
            "ready": not reasons,
            "not_ready": reasons,
            "isolated": self.isolated,
            "key": self.key.fingerprint() if self.key is not None else None,
            "members": dict(Counter(member.state.value for member in members)),
            "instances": dict(Counter(each.health.label for each in instances)),
            "services_file": {
                "path": str(self.services_file.path) if self.services_file.path else None,
                "error": self.services_file.error,
                "refused": dict(self.workloads.refused),
            },
            "gossip": self._gossip(),
            "catalog": {
                "warm": self.catalog.warm,
                "revision": self.catalog.revision,
                "held_back": self.catalog.held_back(),
                "queued": self.catalog.queued,
                **asdict(self.catalog.stats),
            },
            "consensus": {**self.consensus(), "leases": len(self._watch.leases)},
            "plugins": self.plugins(enabled_only=True),
            "tasks": [asdict(task) for task in self._agent.supervisor.statuses()],
            "events_waiting": self._agent.delivery.backlog(),
        }

    def members(self) -> Sequence[Mapping[str, Any]]:
        """All known nodes."""
        now = asyncio.get_running_loop().time()
        return [self._member(member, now) for member in self.gossip.members()]

    def services(self) -> Sequence[Mapping[str, Any]]:
        """All services, with how their instances are."""
        published = self.catalog.services()
        names = sorted(published.keys() | {each.service for each in self.catalog.instances()})
        return [self._service(name, published) for name in names]

    def instances(self) -> Sequence[Mapping[str, Any]]:
        """All instances in the fleet."""
        return [_instance(each) for each in self.catalog.instances()]

    def plugins(self, *, enabled_only: bool = False) -> Sequence[Mapping[str, Any]]:
        """Plugins as they fare in this agent."""
        states = {state.name: state for state in self._agent.manager.states()}
        failures = {name: state.failed for name, state in states.items() if state.failed}
        listed = []
        for info in list_plugins(list(states), failures, self._agent.manager.installed):
            if enabled_only and info.name not in states:
                continue
            state = states.get(info.name)
            listed.append(
                {
                    **asdict(info),
                    "errors": state.errors if state is not None else 0,
                    "last_error": state.last_error if state is not None else "",
                }
            )
        return listed

    def leases(self) -> Sequence[Mapping[str, Any]]:
        """Who holds which lease, as last heard."""
        return self._watch.rows()

    def consensus(self) -> Mapping[str, Any]:
        """How consensus stands."""
        return self.consensus_backend.describe()

    async def consensus_backup(self) -> bytes:
        """A backup of the replicated state.

        Raises:
            RefusedError: this agent holds none.
        """
        backend = self.consensus_backend
        if not isinstance(backend, RaftConsensus):
            raise RefusedError(
                "no-voters",
                "there is nothing to back up: the built-in voters keep no consensus here",
                "constellation consensus status",
            )
        try:
            return await backend.backup(self._agent.clock.time())
        except Unavailable as error:
            voters = ", ".join(str(each["node"]) for each in backend.describe()["voters"])
            raise RefusedError(
                "not-a-voter", str(error), f"ask one of the voters: {voters or 'none is known'}"
            ) from error

    async def verify(self) -> Sequence[Mapping[str, Any]]:
        """Run the checks of the core and of all plugins in use."""
        checks = {"core": verify.core_checks(self), **self._agent.plugins.checks}
        return await verify.run_all(checks, self._agent.manager)

    def logs(self, instance_id: str, *, tail: int, follow: bool) -> Lines:
        """What an instance wrote, on whichever node."""
        return self._logs.open(instance_id, tail=tail, follow=follow)

    async def restart(self, instance_id: str) -> None:
        """Restart an instance of this node."""
        await self.workloads.restart(instance_id, "asked for by the operator")

    async def reload(self) -> Mapping[str, Any]:
        """Load the services file anew."""
        if self.services_file.path is None:
            raise RefusedError(
                "no-services-file", "this agent has no services file", "set [agent] services"
            )
        try:
            names = await self.services_file.load()
        except ServicesError as error:
            raise RefusedError(
                "services-file", str(error), "mend the file; what ran before still runs"
            ) from None
        return {"services": names, "refused": dict(self.workloads.refused)}

    def shut_down(self) -> None:
        """Leave the cluster and end."""
        self._agent.shut_down()

    # --- parts -------------------------------------------------------------------------------

    @property
    def consensus_backend(self) -> ConsensusBackend:
        """What keeps consensus at the moment."""
        return self._agent.consensus.backend

    @property
    def _watch(self) -> ConsensusWatch:
        return self._agent.consensus.watch

    @property
    def isolated(self) -> bool:
        """Whether this node has lost, or never found, others that it knows of or looks for.

        Others that have all said goodbye are not lost.
        """
        others = [m for m in self.gossip.members() if m.name != self.gossip.local.name]
        if any(member.online for member in others):
            return False
        if not others:
            return bool(self.loaded.settings.gossip.join)
        return any(member.state is NodeState.DEAD for member in others)

    def wrong_keys(self) -> dict[str, int]:
        """Addresses that lately sent what our key does not open, with how often."""
        now = asyncio.get_running_loop().time()
        entries = self.gossip.protocol.stats.undecryptable
        return {
            source: entry.count for source, entry in entries.items() if now - entry.last < _RECENT
        }

    def _gossip(self) -> dict[str, Any]:
        protocol = self.gossip.protocol
        stats = protocol.stats
        lost = protocol.given_way_to
        streams = self.gossip.streams.stats
        return {
            "address": _address(self.gossip.local.address),
            "incarnation": self.gossip.local.incarnation,
            "health_score": protocol.awareness.score,
            "queued": protocol.queued,
            "datagrams_in": stats.datagrams_in,
            "datagrams_out": stats.datagrams_out,
            "bytes_in": stats.bytes_in + stats.stream_bytes_in + streams.bytes_in,
            "bytes_out": stats.bytes_out + stats.stream_bytes_out + streams.bytes_out,
            "messages": {
                "datagrams_in": _tally(stats.parts_in),
                "datagrams_out": _tally(stats.parts_out),
                "streams_in": _tally(stats.streams_in),
                "streams_out": _tally(stats.streams_out),
            },
            "malformed": stats.malformed,
            "incompatible": stats.incompatible,
            "last_incompatible": stats.last_incompatible,
            "stalls": stats.stalls,
            "lag": round(stats.lag, 4),
            "name_lost_to": _address(lost.address) if lost is not None else None,
            "last_conflict": self._last_conflict(),
            "wrong_keys": self.wrong_keys(),
            "streams": streams.document(),
            "seeds": {
                seed: "joined" if result.joined else result.reason
                for seed, result in self.discovery.results.items()
            },
        }

    def _last_conflict(self) -> dict[str, Any] | None:
        conflict = self.gossip.protocol.table.conflicts.last
        if conflict is None:
            return None
        return {
            "what": conflict.what,
            "name": conflict.name,
            "claimed_from": _address(conflict.claimed_from),
            "holder": conflict.holder,
            "held_from": _address(conflict.held_from),
            "seconds_ago": round(asyncio.get_running_loop().time() - conflict.at, 1),
        }

    def _member(self, member: Member, now: float) -> dict[str, Any]:
        stats = self.gossip.protocol.stats
        tags = member.tags
        round_trip = stats.round_trips.get(member.name)
        protocol = self.gossip.protocol
        path = protocol.paths.to(member.name, now)
        seen_from = protocol.seen_from.get(member.name)
        return {
            "name": member.name,
            "address": member.address[0],
            "port": member.address[1],
            "state": member.state.value,
            "since": round(now - member.since, 1),
            "incarnation": member.incarnation,
            "region": tags.get("region", ""),
            "version": tags.get("version", ""),
            "api": tags.get("api", ""),
            "round_trip": round(round_trip, 6) if round_trip is not None else None,
            "path": path.value,
            "udp_blocked": path is Path.UDP_BLOCKED,
            "seen_from": _address(seen_from) if seen_from is not None else None,
            "local": member.name == self.gossip.local.name,
            "instances": sum(each.node == member.name for each in self.catalog.instances()),
        }

    def _service(self, name: str, published: Mapping[str, Any]) -> dict[str, Any]:
        instances = self.catalog.instances(name)
        definition = published.get(name)
        routes = definition.to_wire().get("routes", []) if definition is not None else []
        return {
            "name": name,
            "healthy": sum(each.health is Health.HEALTHY for each in instances),
            "instances": [_instance(each) for each in instances],
            "routes": routes,
            "version": definition.version if definition is not None else "",
            "refused": self.workloads.refused.get(name, ""),
        }


def _address(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tally(tally: Tally) -> dict[str, dict[str, int]]:
    return {
        kind: {"messages": messages, "bytes": size}
        for kind, (messages, size) in tally.by_kind().items()
    }


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "service": instance.service,
        "node": instance.node,
        "address": instance.address,
        "ports": dict(instance.ports),
        "health": instance.health.label,
        "reason": instance.reason,
        "restarts": instance.restarts,
        "weight": instance.weight,
        "tags": list(instance.tags),
        "version": instance.version,
    }
