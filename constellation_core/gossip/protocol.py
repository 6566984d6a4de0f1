"""The gossip protocol as one state machine: bytes and time in, actions out.

Nothing here touches a socket, a clock or an event loop. A driver tells it the time with every
input, carries out the :data:`~constellation_core.gossip.actions.Action` values that it
collects, and calls :meth:`Protocol.poll` when :meth:`Protocol.next_deadline` has come. asyncio
is one driver; the simulated network in ``constellation_core.testing`` is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from constellation_core.gossip.actions import (
    Action,
    Delegate,
    Exchange,
    ExchangeFailed,
    NoDelegate,
    SendDatagram,
)
from constellation_core.gossip.awareness import Awareness
from constellation_core.gossip.broadcasts import BroadcastQueue, retransmit_limit
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.conflicts import NameGuard
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.keyring import DecryptError, Keyring
from constellation_core.gossip.member import (
    Address,
    EventKind,
    Member,
    MemberEvent,
    unpack_ip,
)
from constellation_core.gossip.messages import (
    Ack,
    Alive,
    Dead,
    DecodeError,
    ErrorReply,
    IndirectPing,
    Nack,
    Ping,
    Plain,
    PushPull,
    Suspect,
    UserMessage,
    decode,
    encode,
)
from constellation_core.gossip.packets import compound
from constellation_core.gossip.paths import Paths
from constellation_core.gossip.prober import Prober
from constellation_core.gossip.stats import Stats
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.table import MemberTable
from constellation_core.gossip.timers import Timers
from constellation_core.model.node import NodeState

_COMPOUND_HEADER = 2
_PART_OVERHEAD = 2
_PUSH_PULL_SCALE_ABOVE = 32
_NOTABLE_LAG = 0.1
"""Share of the probe timeout by which a timer may be late without the probes being given more."""
_FIRST_PUSH_PULL = 1.0
"""Seconds. A newcomer knows few members, so its news is sent on few times; until that has
evened out it exchanges whole views more often: after 1, 2, 4, ... seconds."""

OnReply = Callable[[StreamMessage | ExchangeFailed], None]


class Protocol:
    """One node of a gossip cluster.

    Args:
        config: timing and names.
        local: this node as others shall see it.
        now: the time at the start, in seconds of a clock that never goes back.
        rng: all chance comes from it.
        keyring: encrypts datagrams; ``None`` for none.
        delegate: what rides on the gossip.
    """

    def __init__(
        self,
        config: GossipConfig,
        local: Member,
        *,
        now: float,
        rng: Random,
        keyring: Keyring | None = None,
        delegate: Delegate | None = None,
    ) -> None:
        self._config = config
        self._rng = rng
        self.envelope = Envelope.of(config, keyring)
        self._delegate: Delegate = delegate or NoDelegate()
        self._actions: list[Action] = []
        self._waiting: dict[int, OnReply] = {}
        self._token = 0
        self._queue = BroadcastQueue()
        self.stats = Stats()
        self.awareness = Awareness()
        self.timers = Timers(now)
        self.table = MemberTable(config, local, self.timers, rng, self.awareness, self)
        self.table.incompatible = self.stats.count_incompatible
        self._guard = NameGuard(self.timers, config.name_retry, self)
        self._prober = Prober(config, self.table, self.timers, self.awareness, self.stats, self)
        self._remembered: set[Address] = set()
        self._started = False
        self._push_pull_after = config.push_pull_interval
        self._asking: set[int] = set()
        self.seen_from: dict[str, Address] = {}
        """Members whose datagrams come from another address than they tell, and from which."""

    # --- for the driver ----------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin to probe and to gossip."""
        self.timers.now = now
        self._started = True
        config = self._config
        self.every(config.probe_interval, self._probe)
        self.every(config.gossip_interval, self._gossip)
        self.every(config.rejoin_interval, self._rejoin)
        self._push_pull_after = min(_FIRST_PUSH_PULL, config.push_pull_interval)
        self.timers.call_later(self._rng.random() * self._push_pull_after, self._push_pull)
        self._delegate.attach(self)

    def stop(self) -> None:
        """Send nothing more."""
        self._started = False

    def next_deadline(self) -> float | None:
        """When :meth:`poll` is to be called."""
        return self.timers.next_deadline()

    def poll(self, now: float) -> None:
        """Let the time be ``now`` and do what is due."""
        due = self.timers.next_deadline()
        self.timers.now = now
        if due is not None:
            self._was_late(now - due)
        self.timers.run_due()

    def take_actions(self) -> list[Action]:
        """What the driver has to do; to be asked after every input."""
        actions, self._actions = self._actions, []
        return actions

    def on_datagram(self, data: bytes, source: Address, now: float) -> None:
        """A datagram came; whatever is in it, this does not raise."""
        self.timers.now = max(now, self.timers.now)
        self.stats.datagrams_in += 1
        self.stats.bytes_in += len(data)
        try:
            for part in self.envelope.open_datagram(data):
                self.stats.parts_in.add(part[0], len(part))
                try:
                    self._on_message(decode(part), source)
                except DecodeError:
                    self.stats.malformed += 1
        except DecryptError:
            self.stats.count_undecryptable(source[0], now)
        except DecodeError:
            self.stats.malformed += 1
        else:
            self.paths.heard(source, self.timers.now)

    def on_request(self, request: StreamMessage, now: float) -> StreamMessage | None:
        """A message came on a stream; returns the answer, if there is one."""
        self.timers.now = max(now, self.timers.now)
        if isinstance(request, Ping) and request.seq in self._asking:
            # This node asked itself: the other address is another one of its own.
            self._asking.discard(request.seq)
            return None
        elder = self._guard.given_way_to
        if elder is not None:
            return ErrorReply(f"this node gave its name up to {elder.address[0]}, see its log")
        if isinstance(request, PushPull):
            # The answer is our view from before the merge, as memberlist gives it.
            answer = self._view(join=False)
            self._merge(request)
            return answer
        if isinstance(request, UserMessage):
            reply = self._delegate.on_request(request.payload)
            return UserMessage(reply) if reply is not None else None
        if isinstance(request, Ping):
            named = request.node in ("", self._config.name)
            return Ack(request.seq) if named else None
        return None

    def on_reply(self, token: int, reply: StreamMessage | ExchangeFailed, now: float) -> None:
        """The outcome of an :class:`~constellation_core.gossip.actions.Exchange`."""
        self.timers.now = max(now, self.timers.now)
        callback = self._waiting.pop(token, None)
        if callback is not None:
            callback(reply)

    # --- for the application -----------------------------------------------------------------

    def sync(
        self, address: Address, done: Callable[[ExchangeFailed | None], None], *, join: bool
    ) -> None:
        """Exchange whole views with the node at ``address``."""

        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
            if isinstance(reply, PushPull):
                self._merge(reply, join=join)
                done(None)
            elif isinstance(reply, ExchangeFailed):
                done(reply)
            else:
                error = getattr(reply, "error", f"it answered with {type(reply).__name__}")
                done(ExchangeFailed(error))

        self._exchange(address, self._view(join=join), on_reply)

    def request(
        self, member: Member, payload: bytes, done: OnReply, *, wants_reply: bool = True
    ) -> None:
        """Send bytes of the application to a member over a stream, to be answered or not."""
        self._exchange(member.address, UserMessage(payload), done, wants_reply=wants_reply)

    def remember(self, addresses: set[Address]) -> None:
        """Addresses of nodes from an earlier life, to be tried until they answer."""
        self._remembered |= addresses

    def every(self, interval: float, function: Callable[[], None]) -> None:
        """Call ``function`` every ``interval`` seconds, first after a random part of one."""

        def tick() -> None:
            self.timers.call_later(interval, tick)
            function()

        # Nodes that start together must not tick together.
        self.timers.call_later(self._rng.random() * interval, tick)

    def set_meta(self, meta: bytes, now: float) -> None:
        """Change what this node tells of itself."""
        self.timers.now = now
        self.table.set_meta(meta)

    def leave(self, now: float) -> None:
        """Say goodbye; it has reached others when :attr:`goodbye_sent` is true."""
        self.timers.now = now
        self.table.leave()

    def move(self, host: str, now: float) -> None:
        """Let others reach this node at another address, while it knows nobody else.

        Raises:
            ValueError: when somebody else is known: they would take it for another node.
        """
        if len(self.table.all()) > 1:
            raise ValueError("the address cannot change once other members are known")
        self.timers.now = now
        self.table.move((host, self.table.local.address[1]))

    @property
    def paths(self) -> Paths:
        """How members are reached that are not reached directly."""
        return self._prober.paths

    @property
    def given_way_to(self) -> Member | None:
        """The elder node of this one's name; while there is one, this node is silent."""
        return self._guard.given_way_to

    @property
    def goodbye_sent(self) -> bool:
        """Whether nothing about this node waits to be gossiped any more."""
        return self.table.online_count() == 0 or self._config.name not in self._queue

    @property
    def queued(self) -> int:
        """Messages about members that wait to be gossiped."""
        return len(self._queue)

    # --- output of the table and the prober --------------------------------------------------

    def broadcast(self, subject: str, message: Alive | Suspect | Dead) -> None:
        """Queue a message about a member for gossip."""
        self._queue.put(subject, encode(message))

    def notify(self, event: MemberEvent) -> None:
        """Pass an event of the membership on."""
        if not event.member.online:
            self.stats.round_trips.pop(event.member.name, None)
            self.paths.forget(event.member.name)
            self.seen_from.pop(event.member.name, None)
        self._delegate.on_event(event)

    def send(self, address: Address, *messages: Plain | UserMessage) -> None:
        """Send messages by UDP, with as much gossip as fits beside them."""
        parts = [encode(message) for message in messages]
        used = sum(map(len, parts)) + _PART_OVERHEAD * len(parts)
        self._send_parts(address, parts + self._piggyback(self._room() - used))

    def accuse(self, member: Member) -> None:
        """Tell a suspect itself, which answers if it can."""
        self.send(member.address, Suspect(member.incarnation, member.name, self._config.name))

    def ping_stream(self, member: Member, ping: Ping, answered: Callable[[], None]) -> None:
        """Ping a member over TCP."""

        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
            if isinstance(reply, Ack) and reply.seq == ping.seq:
                answered()

        timeout = self.awareness.scale(self._config.probe_interval) - self._config.probe_timeout
        self._exchange(member.address, ping, on_reply, max(timeout, self._config.probe_timeout))

    # --- this node's own name ----------------------------------------------------------------

    def name_claimed(self, claim: Member) -> None:
        """Another address goes by the name of this node."""
        self._guard.claimed(claim, self.table.local)

    def ask_for_name(self, claim: Member, answered: Callable[[], None]) -> None:
        """Ask at the claim's address whether somebody there goes by this node's name."""
        seq = self._rng.getrandbits(32)
        self._asking.add(seq)

        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
            asked_another = seq in self._asking
            self._asking.discard(seq)
            if isinstance(reply, Ack) and reply.seq == seq and asked_another:
                answered()

        self._exchange(claim.address, Ping(seq, claim.name), on_reply)

    def give_way(self, claim: Member) -> None:
        """Fall silent: an elder node has this node's name."""
        self._prober.abandon()
        self.table.postpone_suspicions(self._config.name_retry)
        self._delegate.on_event(MemberEvent(EventKind.NAME_LOST, claim, self.table.local))

    def speak_up(self) -> None:
        """Take part again, and see whether the elder node is still there."""
        self.table.refute(0)
        for member in self.table.choose(1, lambda m: m.online):
            self.sync(member.address, lambda _: None, join=True)

    # --- inside ------------------------------------------------------------------------------

    def _probe(self) -> None:
        if self._guard.given_way_to is None:
            self._prober.probe_next()

    def _on_message(self, message: Plain | UserMessage, source: Address) -> None:
        if self._guard.given_way_to is not None:
            return
        match message:
            case Ping():
                self._note_source(message, source)
                self._prober.on_ping(message, source)
            case IndirectPing():
                try:
                    target = (unpack_ip(message.target), message.port)
                except ValueError:
                    raise DecodeError("indirect ping: not an address") from None
                self._prober.on_indirect_ping(message, target, source)
            case Ack():
                self._prober.on_ack(message, source)
            case Nack():
                self._prober.on_nack(message)
            case Alive():
                self.table.alive(message)
            case Suspect():
                self.table.suspect(message)
                if message.node == self._config.name and not self.table.leaving:
                    # Who still says so has not heard the objection.
                    self.send(source, self.table.local.alive())
            case Dead():
                self.table.dead(message)
            case UserMessage():
                self._delegate.on_message(message.payload)

    def _gossip(self) -> None:
        if not self._queue and not self._delegate.has_broadcasts():
            return
        now, most_dead = self.timers.now, self._config.gossip_to_dead

        def wanted(member: Member) -> bool:
            return member.online or (
                member.state is NodeState.DEAD and now - member.since < most_dead
            )

        for member in self.table.choose(self._config.gossip_nodes, wanted):
            parts = self._piggyback(self._room())
            if not parts:
                return
            self._send_parts(member.address, parts)

    def _room(self) -> int:
        return self._config.datagram_size - self.envelope.overhead - _COMPOUND_HEADER

    def _piggyback(self, room: int) -> list[bytes]:
        limit = retransmit_limit(
            self._config.retransmit_multiplier, max(1, self.table.online_count())
        )
        parts = self._queue.take(room, _PART_OVERHEAD, limit)
        room -= sum(len(part) + _PART_OVERHEAD for part in parts)
        if room > _PART_OVERHEAD + 1:
            payloads = self._delegate.broadcasts(room, _PART_OVERHEAD + 1)
            parts += [encode(UserMessage(payload)) for payload in payloads]
        return parts

    def _send_parts(self, address: Address, parts: list[bytes]) -> None:
        if not self._started or self._guard.given_way_to is not None:
            return
        for part in parts:
            self.stats.parts_out.add(part[0], len(part))
        for message in compound(parts):
            data = self.envelope.seal_datagram(message)
            self.stats.datagrams_out += 1
            self.stats.bytes_out += len(data)
            self._actions.append(SendDatagram(address, data))

    def _exchange(
        self,
        address: Address,
        request: StreamMessage,
        done: OnReply,
        timeout: float | None = None,
        *,
        wants_reply: bool = True,
    ) -> None:
        elder = self._guard.given_way_to
        if elder is not None:
            where = f"{elder.address[0]}:{elder.address[1]}"
            reason = f"another node is called {elder.name} too, at {where}, and was there first"
            self.timers.call_later(0, lambda: done(ExchangeFailed(reason)))
            return
        self._token += 1
        self._waiting[self._token] = done
        timeout = timeout or self._config.exchange_timeout
        self._actions.append(Exchange(self._token, address, request, wants_reply, timeout))

    def _view(self, *, join: bool) -> PushPull:
        # The dead as well, as long as they are known: after a partition each side holds the other
        # to be dead, and only who reads that about itself can contradict with a higher number.
        rows = tuple(member.row() for member in self.table.all())
        return PushPull(join, rows, self._delegate.local_state(join=join))

    def _merge(self, view: PushPull, *, join: bool = False) -> None:
        self.table.merge(view.rows)
        if view.user_state:
            self._delegate.merge_state(view.user_state, join=join or view.join)

    def _push_pull(self) -> None:
        nodes = self.table.online_count()
        scale = 1.0
        if nodes > _PUSH_PULL_SCALE_ABOVE:
            scale = math.ceil(math.log2(nodes) - math.log2(_PUSH_PULL_SCALE_ABOVE)) + 1.0
        interval = self._config.push_pull_interval * scale
        self._push_pull_after = min(2 * self._push_pull_after, interval)
        self.timers.call_later(self._push_pull_after, self._push_pull)
        for member in self.table.choose(1, lambda m: m.state is NodeState.ALIVE):
            self.sync(member.address, lambda _: None, join=False)
        for member in self.table.forget():
            self._queue.drop(member.name)
            self._delegate.on_forgotten(member)

    def _rejoin(self) -> None:
        """Try a node that is lost: so partitions heal, however long they lasted."""
        online = {member.address for member in self.table.all() if member.online}
        self._remembered -= online
        lost = {m.address for m in self.table.all() if m.state is NodeState.DEAD}
        candidates = sorted((lost | self._remembered) - online)
        if candidates:
            self.sync(self._rng.choice(candidates), lambda _: None, join=True)

    def _was_late(self, seconds: float) -> None:
        """This process did not run for so long; what was not heard meanwhile proves nothing."""
        self.stats.count_late(seconds)
        config = self._config
        if seconds > config.stall:
            self.stats.stalls += 1
            self._prober.abandon()
            self.table.postpone_suspicions(seconds)
        elif seconds > config.probe_timeout * _NOTABLE_LAG:
            self._prober.postpone(seconds)
        if seconds > config.probe_timeout:
            self.awareness.add(1)

    def _note_source(self, ping: Ping, source: Address) -> None:
        member = self.table.get(ping.source_node) if ping.source_node else None
        if member is None or member.name == self._config.name:
            return
        if source != member.address:
            self.seen_from[member.name] = source
        elif self.seen_from:
            self.seen_from.pop(member.name, None)
