"""The catalog: which instance is where and how it is, on every node, over gossip.

Every node publishes its own rows and nobody else's. A change is broadcast at once; what a
broadcast missed is found by comparing with one random node at a time and is then pulled over
TCP. The catalog rides on the gossip as its delegate and shares its timers, so it is a state
machine like the protocol itself.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from constellation_core.catalog.budget import TokenBucket
from constellation_core.catalog.messages import (
    CatalogMessageError,
    Compare,
    Decoder,
    PullRequest,
    encode,
)
from constellation_core.catalog.owners import OwnerState, Update
from constellation_core.catalog.replica import CatalogStats, Replica
from constellation_core.catalog.rows import INSTANCE, SERVICE, Row, instance_row, service_row
from constellation_core.catalog.sync import AntiEntropy
from constellation_core.catalog.view import Change
from constellation_core.gossip.broadcasts import BroadcastQueue, retransmit_limit
from constellation_core.gossip.member import (
    CONFLICTS,
    EPOCH_TAG,
    EventKind,
    Member,
    MemberEvent,
)
from constellation_core.gossip.protocol import Protocol
from constellation_core.model.instance import Instance
from constellation_core.model.node import Node
from constellation_core.model.published import PublishedService

log = logging.getLogger("constellation.catalog")

_NOTHING_TOLD = (-math.inf, 0)


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    """Timing and limits of the catalog.

    Attributes:
        sync_interval: seconds between two comparisons with a random node.
        pull_delay: a gap is pulled after a random time up to this, so that not all do at once.
        bytes_per_second: what broadcasts may use; the rest is left to the comparisons.
        burst: bytes that may be used at once after a calm time.
        message_size: largest broadcast; more is announced only, and pulled.
        settling: seconds after which everybody should know of an announced change. A broadcast
            holds what changed since, so that it can be applied by all but those who missed more.
        retransmit_multiplier: scales how often a broadcast is sent.
        tombstone_seconds: how long a removal is remembered.
        warm_timeout: seconds after which an unanswered node works with what it knows.
    """

    sync_interval: float = 10.0
    pull_delay: float = 0.3
    bytes_per_second: float = 12_000.0
    burst: float = 24_000.0
    message_size: int = 1_200
    settling: float = 5.0
    retransmit_multiplier: int = 3
    tombstone_seconds: float = 3_600.0
    warm_timeout: float = 30.0


class Catalog:
    """This node's copy of the catalog; also the gossip's delegate.

    Args:
        node: this node's name.
        epoch: greater than in every earlier life of this node; wall-clock seconds will do.
        rng: all chance comes from it.
        config: timing and limits.
        on_event: told of every event of the membership, after the catalog has taken it in.
        on_epoch: told the new epoch when this node finds traces of a life with a greater one.
        decoder: decodes what others say; simulated nodes may share one.
    """

    def __init__(
        self,
        node: str,
        epoch: int,
        rng: Random,
        config: CatalogConfig | None = None,
        *,
        on_event: Callable[[MemberEvent], None] = lambda _: None,
        on_epoch: Callable[[int], None] = lambda _: None,
        decoder: Decoder | None = None,
    ) -> None:
        self._config = config or CatalogConfig()
        self._rng = rng
        self._on_event = on_event
        self._on_epoch = on_epoch
        self._decoder = decoder or Decoder()
        self._protocol: Protocol | None = None
        self._sync: AntiEntropy | None = None
        self.stats = CatalogStats()
        # The version 1 is an empty snapshot: it tells the others that an earlier life is over.
        self._own = OwnerState(node, epoch, 1)
        self._replica = Replica(self._own, self._member, self.stats, self._go_on_in)
        self._view = self._replica.view
        self._queue = BroadcastQueue()
        self._announced = 0
        self._told = deque([_NOTHING_TOLD])
        self._base = 0
        self._buried_at: dict[str, float] = {}
        self._bucket = TokenBucket(self._config.bytes_per_second, self._config.burst)
        self._alone = False

    # --- what this node publishes ------------------------------------------------------------

    @property
    def node(self) -> str:
        """This node's name."""
        return self._own.owner

    @property
    def epoch(self) -> int:
        """The epoch of this node's rows."""
        return self._own.epoch

    def publish_instance(self, instance: Instance) -> None:
        """Publish an instance of this node, or its change.

        Raises:
            RowError: when other nodes would refuse it.
        """
        self._publish(instance_row(instance, self._own.version + 1))

    def withdraw_instance(self, instance_id: str) -> None:
        """Publish that an instance of this node is gone."""
        self._withdraw(INSTANCE + instance_id)

    def publish_service(self, service: PublishedService) -> None:
        """Publish a definition that this node runs, or its change.

        Raises:
            RowError: when other nodes would refuse it.
        """
        self._publish(service_row(service, self._own.owner, self._own.version + 1))

    def withdraw_service(self, name: str) -> None:
        """Publish that this node no longer runs the service."""
        self._withdraw(SERVICE + name)

    # --- reading (CatalogView) ---------------------------------------------------------------

    @property
    def warm(self) -> bool:
        """Whether this node has heard the fleet's state since it started."""
        return self._alone or (self._sync is not None and self._sync.warm)

    def assume_warm(self) -> None:
        """This node is alone by its settings, so what it knows is all there is."""
        self._alone = True

    @property
    def revision(self) -> int:
        """Grows with every change of what can be read here."""
        return self._view.revision

    def instances(self, service: str | None = None) -> Sequence[Instance]:
        """All instances, or those of one service, by id."""
        return self._view.instances(service)

    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this id."""
        return self._view.instance(instance_id)

    def services(self) -> Mapping[str, PublishedService]:
        """The definition in force of each service."""
        return self._view.services()

    def changed_services(self, since: int) -> set[str] | None:
        """Services that changed after that revision; ``None`` when that is too long ago."""
        return self._view.changed_services(since)

    def nodes(self) -> Sequence[Node]:
        """All known nodes, by name."""
        if self._protocol is None:
            return []
        members = sorted(self._protocol.table.all(), key=lambda member: member.name)
        return [node_of(member) for member in members]

    def versions(self) -> Mapping[str, tuple[int, int]]:
        """Epoch and version of every owner's rows, as far as they are known here."""
        return self._replica.versions()

    async def wait_change(self, since: int) -> int:
        """Wait until the revision is above ``since``; return it."""
        return await self._view.wait_change(since)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``listener`` with every change; returns what ends that."""
        return self._view.subscribe(listener)

    def acquaint(self, other: Catalog) -> None:
        """Know all that another node's catalog knows, as after a long calm, and tell nobody.

        For simulations, after ``Protocol.acquaint``. Both share what is immutable.
        """
        self._replica.acquaint(other._replica)
        self._announced = self._own.version
        self._told = deque([(-math.inf, self._own.version)])
        if self._sync is not None:
            self._sync.warm = True

    # --- the gossip's delegate ---------------------------------------------------------------

    def attach(self, protocol: Protocol) -> None:
        """The protocol that this rides on; called by it once, when it starts."""
        self._protocol = protocol
        config = self._config
        sync = AntiEntropy(
            self._replica, protocol, self._rng, config.pull_delay, self.stats, self._decoder
        )
        self._sync = sync
        protocol.every(config.sync_interval, sync.sync_with_random)
        protocol.every(config.tombstone_seconds / 10, self._bury)
        protocol.timers.call_later(config.warm_timeout, self._give_up_waiting)

    def on_event(self, event: MemberEvent) -> None:
        """A member changed: what it owns is worth more or less now."""
        if event.kind is EventKind.JOINED and self._sync is not None:
            self._sync.pull_soon(event.member.name)
        if event.kind not in CONFLICTS:
            self._replica.judge(event.member.name)
        self._on_event(event)

    def on_forgotten(self, member: Member) -> None:
        """The membership has forgotten a member: forget its rows."""
        self._replica.forget(member.name)

    def on_message(self, payload: bytes) -> None:
        """A broadcast came, or another node's fingerprint."""
        try:
            message = self._decoder.decode(payload)
        except CatalogMessageError as error:
            self.stats.reject(str(error))
            return
        if self._sync is None:
            return
        if isinstance(message, Compare):
            self._sync.on_state(message, join=False)
        elif isinstance(message, Update) and self._sync.take(message) and not message.damaged:
            self._queue.put(message.owner, payload)

    def has_broadcasts(self) -> bool:
        """Whether anything waits to be told."""
        return len(self._queue) > 0 or self._announced != self._own.version

    def broadcasts(self, room: int, overhead: int) -> Sequence[bytes]:
        """Updates for one datagram."""
        protocol = self._protocol
        if protocol is None:
            return ()
        self._announce()
        room = min(room, self._bucket.available(protocol.timers.now))
        nodes = max(1, protocol.table.online_count())
        limit = retransmit_limit(self._config.retransmit_multiplier, nodes)
        taken = self._queue.take(room, overhead, limit)
        self._bucket.spend(sum(len(payload) + overhead for payload in taken))
        return taken

    def on_request(self, payload: bytes) -> bytes | None:
        """Another node compares or pulls."""
        if self._sync is None:
            return None
        try:
            message = self._decoder.decode(payload)
        except CatalogMessageError as error:
            self.stats.reject(str(error))
            return None
        match message:
            case Compare():
                return self._sync.on_compare(message)
            case PullRequest():
                return self._sync.on_pull(message)
            case _:
                self.stats.reject(f"{type(message).__name__} is not a request")
                return None

    def local_state(self, *, join: bool) -> bytes:  # noqa: ARG002
        """Rides on push/pulls: enough to see whether the catalogs differ."""
        return encode(self._sync.compare()) if self._sync is not None else b""

    def merge_state(self, state: bytes, *, join: bool) -> None:
        """The other side's :meth:`local_state`."""
        try:
            message = self._decoder.decode(state)
        except CatalogMessageError:
            # A plain memberlist or Serf node may add something of its own.
            return
        if isinstance(message, Compare) and self._sync is not None:
            self._sync.on_state(message, join=join)

    # --- inside ------------------------------------------------------------------------------

    def _publish(self, row: Row) -> None:
        known = self._own.rows.get(row.key)
        if known is None or known.data != row.data:
            self._buried_at.pop(row.key, None)
            self._replica.change_own(row)

    def _withdraw(self, key: str) -> None:
        known = self._own.rows.get(key)
        if known is not None and known.value is not None:
            self._replica.change_own(Row(key, self._own.version + 1, b"", None))
            self._buried_at[key] = self._now()

    def _announce(self) -> None:
        """Queue what changed since the last time; called when a datagram is about to leave."""
        own = self._own
        if self._announced == own.version:
            return
        payload, base = self._announcement()
        self._base = base
        self._announced = own.version
        self._told.append((self._now(), own.version))
        self._queue.put(own.owner, payload)

    def _announcement(self) -> tuple[bytes, int]:
        """What to broadcast of this node's rows, and the version that it can be applied to."""
        own, most = self._own, self._config.message_size
        # While an earlier update still waits, the new one has to contain it.
        newest = self._base if own.owner in self._queue else self._announced
        update = own.since(min(newest, self._settled()))
        living = sum(row.value is not None for row in own.rows.values())
        if update.base and 2 * len(update.rows) >= living:
            # Nearly as short, and it can be applied by everybody.
            update = own.since(0)
        payload = encode(update)
        if len(payload) > most:
            update = own.since(max(1, newest))
            payload = encode(update)
        if len(payload) > most:
            # Too much for a datagram: only say that there is more, and be asked for it.
            payload = encode(Update(own.owner, own.epoch, own.version, own.version, ()))
            return payload, max(1, newest)
        return payload, update.base

    def _settled(self) -> int:
        """The latest version that everybody should have heard of by now; 0 for none."""
        since = self._now() - self._config.settling
        while len(self._told) > 1 and self._told[1][0] <= since:
            self._told.popleft()
        return self._told[0][1]

    def _now(self) -> float:
        return self._protocol.timers.now if self._protocol is not None else 0.0

    def _go_on_in(self, epoch: int) -> None:
        """This node's own rows have a new epoch."""
        self._announced = 0
        self._told = deque([_NOTHING_TOLD])
        self._on_epoch(epoch)

    def _member(self, name: str) -> Member | None:
        return self._protocol.table.get(name) if self._protocol is not None else None

    def _give_up_waiting(self) -> None:
        if not self.warm and self._sync is not None:
            log.warning(
                "no other node has answered in %.0f s; going on with what this node knows",
                self._config.warm_timeout,
            )
            self._sync.warm_up()

    def _bury(self) -> None:
        if self._protocol is None:
            return
        oldest = self._protocol.timers.now - self._config.tombstone_seconds
        due = [key for key, at in self._buried_at.items() if at < oldest]
        self._own.bury(due)
        for key in due:
            del self._buried_at[key]


def node_of(member: Member) -> Node:
    """A member of the gossip, in the words of the model."""
    return Node(
        member.name,
        member.address[0],
        member.address[1],
        member.state,
        member.incarnation,
        dict(member.tags),
    )


def with_epoch(tags: Mapping[str, str], epoch: int) -> dict[str, str]:
    """A node's metadata with the epoch of its rows."""
    return {**tags, EPOCH_TAG: f"{epoch:x}"}
