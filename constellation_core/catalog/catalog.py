"""The catalog: which instance is where and how it is, on every node, over gossip.

Every node publishes its own rows and nobody else's. A change is broadcast at once; what a
broadcast missed is found by comparing with one random node at a time and is then pulled over
TCP. The catalog rides on the gossip as its delegate and shares its timers, so it is a state
machine like the protocol itself.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random

from constellation_core.catalog.budget import TokenBucket
from constellation_core.catalog.config import CatalogConfig
from constellation_core.catalog.messages import (
    CatalogMessageError,
    Compare,
    Decoder,
    Heard,
    PullRequest,
    encode,
)
from constellation_core.catalog.outbox import Outbox
from constellation_core.catalog.own import OwnRows
from constellation_core.catalog.owners import OwnerState, Update
from constellation_core.catalog.queue import UpdateQueue
from constellation_core.catalog.replica import Replica
from constellation_core.catalog.rows import (
    INSTANCE,
    SERVICE,
    Row,
    RowError,
    Value,
    instance_row,
    service_row,
)
from constellation_core.catalog.standing import node_of
from constellation_core.catalog.stats import CatalogStats
from constellation_core.catalog.sync import AntiEntropy
from constellation_core.catalog.urgency import Urgency
from constellation_core.catalog.view import Change
from constellation_core.gossip.broadcasts import retransmit_limit
from constellation_core.gossip.member import CONFLICTS, Member, MemberEvent
from constellation_core.gossip.protocol import Protocol
from constellation_core.model.instance import Instance
from constellation_core.model.node import Node
from constellation_core.model.published import PublishedService

log = logging.getLogger("constellation.catalog")

_MOST_EARLY = 256
_TAKEN = 16
"""So many of others' broadcasts are recognised when they come again."""
_LEAST_SENT = 6
"""So often every update is sent at least: in small clusters the multiplier leaves some out."""


class Catalog:
    """This node's copy of the catalog; also the gossip's delegate.

    Args:
        node: this node's name.
        epoch: greater than in every earlier life of this node; wall-clock seconds will do.
        rng: all chance comes from it.
        config: timing and limits.
        on_event: told of every event of the membership, after the catalog has taken it in.
        on_epoch: told the new epoch when this node cannot go on with the one that it has.
        wall: the wall clock, in seconds since 1970.
        decoder: decodes what others say; simulated nodes may share one.

    Attributes:
        node: this node's name.
        stats: what was counted.
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
        wall: Callable[[], float] = time.time,
        decoder: Decoder | None = None,
    ) -> None:
        self.node = node
        self._config = config or CatalogConfig()
        self._rng = rng
        self._on_event = on_event
        self._wall = wall
        self._decoder = decoder or Decoder()
        self.stats = CatalogStats()
        # The version 1 is an empty snapshot: it tells the others that an earlier life is over.
        state = OwnerState(node, epoch, 1)
        self._outbox = Outbox(self._config.gather, self._config.damping, self._show)
        self._own = OwnRows(state, self._outbox, self._config.message_size, self.stats, on_epoch)
        self._replica = Replica(
            state, self._outbox.value, self._member, self._members, wall, self.stats
        )
        self._view = self._replica.view
        self._queue = UpdateQueue()
        self._taken: deque[bytes] = deque(maxlen=_TAKEN)
        self._early: dict[str, tuple[Update, bytes]] = {}
        self._bucket = TokenBucket(self._config.bytes_per_second, self._config.burst)
        self._alone = False
        self._protocol: Protocol | None = None
        self._sync: AntiEntropy | None = None

    # --- what this node publishes ------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of this node's rows."""
        return self._own.state.epoch

    def publish_instance(self, instance: Instance) -> None:
        """Publish an instance of this node, or its change.

        Raises:
            RowError: when other nodes would refuse it.
        """
        self._publish(instance_row(instance, 0))

    def withdraw_instance(self, instance_id: str) -> None:
        """Publish that an instance of this node is gone."""
        self._outbox.withdraw(INSTANCE + instance_id, self._now)

    def publish_service(self, service: PublishedService) -> None:
        """Publish a definition that this node runs, or its change.

        Raises:
            RowError: when other nodes would refuse it.
        """
        self._publish(service_row(service, self._own.state.owner, 0))

    def withdraw_service(self, name: str) -> None:
        """Publish that this node no longer runs the service."""
        self._outbox.withdraw(SERVICE + name, self._now)

    def held_back(self) -> Mapping[str, float]:
        """Instances of this node that serve, but changed too often for that to be told yet.

        Returns:
            The seconds until it is told, by id.
        """
        now = self._now
        return {name: max(0.0, due - now) for name, due in self._outbox.held_back().items()}

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

    @property
    def queued(self) -> int:
        """Nodes of which updates wait to be broadcast."""
        return len(self._queue)

    def versions(self) -> Mapping[str, tuple[int, int]]:
        """Epoch and version of every owner's rows, as far as they are known here."""
        return self._replica.versions()

    async def wait_change(self, since: int) -> int:
        """Wait until the revision is above ``since``; return it."""
        return await self._view.wait_change(since)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``listener`` with every change; returns what ends that."""
        return self._view.subscribe(listener)

    def introduce(self, other: Catalog) -> None:
        """Let another node's catalog know all that this node publishes; for simulations."""
        self._own.settle()
        if other is not self:
            other._replica.take(self._own.state.since(0), from_owner=True)

    def acquaint(self, other: Catalog) -> None:
        """Know all that another node's catalog knows, as after a long calm, and tell nobody.

        For simulations, after ``Protocol.acquaint``. Both share what is immutable.
        """
        self._replica.acquaint(other._replica)
        if self._sync is not None:
            self._sync.warm = True

    # --- the gossip's delegate ---------------------------------------------------------------

    def attach(self, protocol: Protocol) -> None:
        """The protocol that this rides on; called by it once, when it starts."""
        self._protocol = protocol
        config = self._config
        self._sync = AntiEntropy(
            self._replica,
            self._own,
            protocol,
            self._rng,
            config.pull_delay,
            config.sync_interval,
            self.stats,
            self._decoder,
        )
        protocol.every(config.sync_interval, self._compare)
        protocol.every(config.tombstone_seconds / 10, self._bury)
        protocol.timers.call_later(config.warm_timeout, self._give_up_waiting)

    def on_event(self, event: MemberEvent) -> None:
        """A member changed: what it owns is worth more or less now."""
        name = event.member.name
        if event.kind not in CONFLICTS:
            self._replica.judge(name)
            early = self._early.pop(name, None)
            if early is not None:
                self._receive(*early)
            if self._sync is not None and event.member.online and self._replica.behind(name):
                self._sync.pull_soon(name)
        self._on_event(event)

    def on_forgotten(self, member: Member) -> None:
        """The membership has forgotten a member: forget its rows."""
        self._taken.clear()
        self._replica.forget(member.name)
        self._queue.drop(member.name)
        self._early.pop(member.name, None)
        if self._sync is not None:
            self._sync.forget(member.name)

    def on_message(self, payload: bytes) -> None:
        """A broadcast came, or another node's fingerprint."""
        if payload in self._taken or self._own.said(payload):
            # As most are: everybody hears everything a dozen times.
            self.stats.updates_old += 1
            return
        try:
            message = self._decoder.decode(payload)
        except CatalogMessageError as error:
            self.stats.reject(str(error))
            return
        match message:
            case Update():
                self._receive(message, payload)
            case Heard() if message.owner == self.node:
                self._own.hear(message.known)
            case Compare() if self._sync is not None:
                self._sync.on_fingerprint(message)
            case _:
                self.stats.reject(f"{type(message).__name__} is not broadcast")

    def has_broadcasts(self) -> bool:
        """Whether anything waits to be told."""
        return len(self._queue) > 0 or self._own.due(self._now)

    def broadcasts(self, room: int, overhead: int, copies: int) -> Sequence[bytes]:
        """Updates for one datagram."""
        protocol = self._protocol
        if protocol is None:
            return ()
        now = protocol.timers.now
        if self._own.due(now):
            for part in self._own.parts(now, self._queue.oldest_base(self.node)):
                self._enqueue(self.node, part.base, part.version, part.payload, part.urgency)
        if not len(self._queue):
            return ()
        nodes = max(1, protocol.table.online_count())
        limit = max(_LEAST_SENT, retransmit_limit(self._config.retransmit_multiplier, nodes))
        tokens = self._bucket.available(now) // copies
        taken = self._queue.take(room, tokens, overhead, limit, copies)
        spent = copies * sum(len(payload) + overhead for payload in taken)
        self._bucket.spend(spent)
        self.stats.broadcast_bytes += spent
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

    @property
    def _now(self) -> float:
        return self._protocol.timers.now if self._protocol is not None else 0.0

    def _publish(self, row: Row) -> None:
        if not self._outbox.has_room(row):
            raise RowError(f"{row.key}: this node publishes too much already")
        self._outbox.put(row, self._now)

    def _show(self, key: str, _value: Value | None) -> None:
        self._replica.show_own(key)

    def _receive(self, update: Update, payload: bytes) -> None:
        """A broadcast of somebody's rows; what is news is told on."""
        owner = update.owner
        if owner == self.node:
            self._own.hear_update(update)
            return
        taken = self._replica.take(update)
        if taken.early:
            self._keep_early(update, payload)
        if taken.gap and self._sync is not None:
            self._sync.pull_soon(owner)
        if taken.news:
            self._taken.append(payload)
        if taken.news and not update.damaged:
            self._enqueue(owner, update.base, update.version, payload, taken.urgency)

    def _keep_early(self, update: Update, payload: bytes) -> None:
        """Its owner may be heard of in a moment."""
        self._early.pop(update.owner, None)
        while len(self._early) >= _MOST_EARLY:
            del self._early[next(iter(self._early))]
        self._early[update.owner] = (update, payload)

    def _enqueue(
        self, owner: str, base: int, version: int, payload: bytes, urgency: Urgency
    ) -> None:
        self._queue.put(owner, base, version, payload, urgency)
        if self._queue.overflowed > self.stats.overflowed and self._sync is not None:
            self.stats.overflowed = self._queue.overflowed
            self._sync.hurry()

    def _member(self, name: str) -> Member | None:
        return self._protocol.table.get(name) if self._protocol is not None else None

    def _members(self) -> Sequence[Member]:
        return self._protocol.table.all() if self._protocol is not None else ()

    def _compare(self) -> None:
        if not self._replica.believable(self.epoch, self.node):
            log.warning("this node's epoch %d is not over yet: it goes on with now's", self.epoch)
            self._own.start_anew(int(self._wall()))
        if self._sync is not None:
            self._sync.sync_with_random()

    def _give_up_waiting(self) -> None:
        if not self.warm and self._sync is not None:
            log.warning(
                "no other node has answered in %.0f s; going on with what this node knows",
                self._config.warm_timeout,
            )
            self._sync.warm_up()

    def _bury(self) -> None:
        self._replica.bury(self._now, self._config.tombstone_seconds)
