"""The gossip protocol as one state machine: bytes and time in, actions out.

Nothing here touches a socket, a clock or an event loop. A driver tells it the time with every
input, carries out the :data:`~constellation_core.gossip.actions.Action` values that it
collects, and calls :meth:`Protocol.poll` when :meth:`Protocol.next_deadline` has come. asyncio
is one driver; the simulated network in ``constellation_core.testing`` is another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from constellation_core.gossip.actions import (
    Action,
    Delegate,
    ExchangeFailed,
    NoDelegate,
)
from constellation_core.gossip.awareness import Awareness
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.conflicts import NameGuard
from constellation_core.gossip.dissemination import Dissemination
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.exchanges import Exchanges, OnReply
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
    MessageType,
    Nack,
    Ping,
    Plain,
    PushPull,
    Suspect,
    UserMessage,
    decode,
    encode,
)
from constellation_core.gossip.paths import Paths
from constellation_core.gossip.prober import Prober
from constellation_core.gossip.stats import Stats
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.table import MemberTable
from constellation_core.gossip.timers import Timers
from constellation_core.gossip.views import Views
from constellation_core.model.node import NodeState

_NOTABLE_LAG = 0.1
"""Share of the probe timeout by which a timer may be late without the probes being given more."""


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
        self.stats = Stats()
        self.awareness = Awareness()
        self.timers = Timers(now)
        self.table = MemberTable(config, local, self.timers, rng, self.awareness, self)
        self.table.incompatible = self.stats.count_incompatible
        self._guard = NameGuard(self.timers, config.name_retry, self)
        self._dissemination = Dissemination(
            config,
            self.table,
            self.timers,
            self.stats,
            self.envelope,
            self._delegate,
            self._actions.append,
        )
        self._exchanges = Exchanges(self.timers, config.exchange_timeout, self._actions.append)
        self._views = Views(config, self.table, self.timers, rng, self._exchanges, self._delegate)
        self._prober = Prober(config, self.table, self.timers, self.awareness, self.stats, self)
        self._asking: set[int] = set()
        self._stopped = False
        self.seen_from: dict[str, Address] = {}
        """Members whose datagrams come from another address than they tell, and from which."""

    # --- for the driver ----------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin to probe and to gossip."""
        self.timers.now = now
        self._dissemination.silent = False
        config = self._config
        self.every(config.probe_interval, self._probe)
        self.every(config.gossip_interval, self._dissemination.round)
        self.every(config.rejoin_interval, self._views.rejoin)
        self.every(config.push_pull_interval, self._forget)
        self._views.start()
        self._delegate.attach(self)

    def stop(self) -> None:
        """Send nothing more, for good; what waits for an answer fails."""
        self._stopped = True
        self._dissemination.silent = True
        self._exchanges.stop()

    def next_deadline(self) -> float | None:
        """When :meth:`poll` is to be called; ``None`` for never."""
        return None if self._stopped else self.timers.next_deadline()

    def poll(self, now: float) -> None:
        """Let the time be ``now`` and do what is due."""
        due = self.timers.next_deadline()
        self.timers.now = now
        if due is not None:
            self._was_late(now - due)
        self.timers.run_due()

    def take_actions(self) -> list[Action]:
        """What the driver has to do; to be asked after every input."""
        actions = list(self._actions)
        self._actions.clear()
        return actions

    def on_datagram(self, data: bytes, source: Address, now: float) -> None:
        """A datagram came; whatever is in it, this does not raise."""
        self.timers.now = max(now, self.timers.now)
        self.stats.datagrams_in += 1
        self.stats.bytes_in += len(data)
        answers: list[Plain] = []
        try:
            for part in self.envelope.open_datagram(data):
                kind = part[0]
                self.stats.parts_in.add(kind, len(part))
                if self._guard.given_way_to is not None:
                    continue
                if kind == MessageType.USER:
                    self._delegate.on_message(part[1:])
                    continue
                try:
                    self._on_message(decode(part), source, answers)
                except DecodeError:
                    self.stats.malformed += 1
        except DecryptError:
            self.stats.count_undecryptable(source[0], now)
        except DecodeError:
            self.stats.malformed += 1
        else:
            self.paths.heard(source, self.timers.now)
        if answers:
            self.send(source, *answers)

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
            return self._views.answer(request)
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
        self._exchanges.close(token, reply)

    # --- for the application -----------------------------------------------------------------

    def sync(
        self, address: Address, done: Callable[[ExchangeFailed | None], None], *, join: bool
    ) -> None:
        """Exchange whole views with the node at ``address``."""
        self._views.sync(address, done, join=join)

    def request(
        self, member: Member, payload: bytes, done: OnReply, *, wants_reply: bool = True
    ) -> None:
        """Send bytes of the application to a member over a stream, to be answered or not."""
        self._exchanges.open(member.address, UserMessage(payload), done, wants_reply=wants_reply)

    def remember(self, addresses: set[Address]) -> None:
        """Addresses of nodes from an earlier life, to be tried until they answer."""
        self._views.remember(addresses)

    def acquaint(self, members: Mapping[str, Member]) -> None:
        """Know these members, as after a long calm, without telling or asking anybody.

        For simulations that do not begin with a large cluster's first minute. The delegate hears
        nothing of it.
        """
        self.table.acquaint(members)
        self._views.settle()

    def every(self, interval: float, function: Callable[[], None]) -> None:
        """Call ``function`` every ``interval`` seconds, first after a random part of one."""
        # Nodes that start together must not tick together.
        self.timers.repeat(self._rng.random() * interval, interval, function)

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
        return self.table.online_count() == 0 or self._config.name not in self._dissemination.queue

    @property
    def queued(self) -> int:
        """Messages about members that wait to be gossiped."""
        return len(self._dissemination.queue)

    # --- output of the table and the prober --------------------------------------------------

    def broadcast(self, subject: str, message: Alive | Suspect | Dead) -> None:
        """Queue a message about a member for gossip."""
        self._dissemination.queue.put(subject, encode(message))

    def notify(self, event: MemberEvent) -> None:
        """Pass an event of the membership on."""
        if not event.member.online:
            self._forget_way(event.member.name)
        self._delegate.on_event(event)

    def send(self, address: Address, *messages: Plain | UserMessage) -> None:
        """Send messages by UDP, with as much gossip as fits beside them."""
        self._dissemination.send(address, *messages)

    def accuse(self, member: Member) -> None:
        """Tell a suspect itself, which answers if it can."""
        self.send(member.address, Suspect(member.incarnation, member.name, self._config.name))

    def ping_stream(self, member: Member, ping: Ping, answered: Callable[[], None]) -> None:
        """Ping a member over TCP."""

        def on_reply(reply: StreamMessage | ExchangeFailed) -> None:
            if isinstance(reply, Ack) and reply.seq == ping.seq:
                answered()

        timeout = self.awareness.scale(self._config.probe_interval) - self._config.probe_timeout
        self._exchanges.open(
            member.address, ping, on_reply, max(timeout, self._config.probe_timeout)
        )

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

        self._exchanges.open(claim.address, Ping(seq, claim.name), on_reply)

    def give_way(self, claim: Member) -> None:
        """Fall silent: an elder node has this node's name."""
        self._dissemination.silent = True
        where = f"{claim.address[0]}:{claim.address[1]}"
        self._exchanges.refused = (
            f"another node is called {claim.name} too, at {where}, and was there first"
        )
        self._prober.abandon()
        self.table.postpone_suspicions(self._config.name_retry)
        self._delegate.on_event(MemberEvent(EventKind.NAME_LOST, claim, self.table.local))

    def speak_up(self) -> None:
        """Take part again, and see whether the elder node is still there."""
        self._dissemination.silent = False
        self._exchanges.refused = ""
        self.table.refute(0)
        for member in self.table.choose(1, lambda m: m.online):
            self.sync(member.address, lambda _: None, join=True)

    # --- inside ------------------------------------------------------------------------------

    def _probe(self) -> None:
        if self._guard.given_way_to is None:
            self._prober.probe_next()

    def _on_message(
        self, message: Plain | UserMessage, source: Address, answers: list[Plain]
    ) -> None:
        match message:
            case Ping():
                self._note_source(message, source)
                answers += self._prober.on_ping(message)
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
                    answers.append(self.table.local.alive())
            case Dead():
                self.table.dead(message)

    def _forget(self) -> None:
        for member in self.table.forget():
            self._dissemination.queue.drop(member.name)
            self._forget_way(member.name)
            self._delegate.on_forgotten(member)
            if member.state is NodeState.DEAD:
                # Both sides of a partition may forget each other before it heals.
                self._views.remember({member.address})

    def _forget_way(self, name: str) -> None:
        self.stats.round_trips.pop(name, None)
        self.paths.forget(name)
        self.seen_from.pop(name, None)

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
        if not member.online:
            # It lives, so what is believed of it here is wrong: let it object.
            by = member.name if member.state is NodeState.LEFT else self._config.name
            self.send(source, Dead(member.incarnation, member.name, by))
        if source != member.address:
            self.seen_from[member.name] = source
        elif self.seen_from:
            self.seen_from.pop(member.name, None)
