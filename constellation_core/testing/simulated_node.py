"""One node of a simulated network: the protocol, and a driver that is no more than a few calls."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from constellation_core.gossip.actions import Delegate, Exchange, ExchangeFailed, SendDatagram
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.envelope import STREAM_HEADER
from constellation_core.gossip.keyring import DecryptError, Keyring
from constellation_core.gossip.member import Address, Member
from constellation_core.gossip.messages import UserMessage
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.streams import StreamMessage, decode_stream, encode_stream
from constellation_core.model.node import NodeState

if TYPE_CHECKING:
    from constellation_core.testing.network import SimulatedNetwork

_SOCKET_BUFFER = 256
"""Datagrams that wait for a paused process; the kernel drops what comes beyond."""


class SimulatedNode:
    """A node; made by :meth:`SimulatedNetwork.add`.

    Attributes:
        name: its name.
        address: where it listens.
        protocol: its protocol, to look at.
        delegate: what rides on its gossip.
        running: false once it was killed.
    """

    def __init__(
        self,
        network: SimulatedNetwork,
        name: str,
        config: GossipConfig,
        address: Address,
        *,
        incarnation: int,
        delegate: Delegate | None,
        meta: bytes,
        keyring: Keyring | None,
    ) -> None:
        self.name = name
        self.address = address
        self.delegate = delegate
        self.running = False
        self._network = network
        self._paused = False
        self._inbox: list[Callable[[], None]] = []
        self._wake_at: float | None = None
        local = Member(
            config.name,
            address,
            incarnation,
            NodeState.ALIVE,
            network.now,
            meta,
            config.versions,
        )
        self.protocol = Protocol(
            config,
            local,
            now=network.now,
            rng=Random(network.rng.getrandbits(64)),
            keyring=keyring,
            delegate=delegate,
        )

    # --- what a test does to it --------------------------------------------------------------

    def start(self) -> None:
        """Begin to gossip."""
        self.running = True
        self.protocol.start(self._network.now)
        self._flush()

    def join(self, other: SimulatedNode) -> None:
        """Exchange views with ``other``."""
        self.protocol.sync(other.address, lambda _: None, join=True)
        self._flush()

    def leave(self) -> None:
        """Say goodbye; the node goes on gossiping until it is killed."""
        self.protocol.leave(self._network.now)
        self._flush()

    def kill(self) -> None:
        """End it without a goodbye."""
        self.running = False
        self.protocol.stop()

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does; what arrives waits in the kernel."""
        self._paused = True

    def resume(self) -> None:
        """Let the process go on."""
        self._paused = False
        inbox, self._inbox = self._inbox, []
        for handle in inbox:
            handle()
        self._poll()

    def flush(self) -> None:
        """Carry out what was asked of the protocol or the delegate from outside."""
        self._flush()

    # --- asking ------------------------------------------------------------------------------

    def alive_names(self) -> set[str]:
        """The nodes that this one holds to be alive; a suspect is none."""
        return {m.name for m in self.protocol.table.all() if m.state is NodeState.ALIVE}

    def state_of(self, name: str) -> NodeState | None:
        """What this node believes of another."""
        member = self.protocol.table.get(name)
        return member.state if member is not None else None

    # --- what the network does to it ---------------------------------------------------------

    def receive(self, data: bytes, source: Address) -> None:
        """A datagram arrives."""
        if self.running and not self._paused:
            self.protocol.on_datagram(data, source, self._network.now)
            self._flush()
        elif len(self._inbox) < _SOCKET_BUFFER:
            self.handle(lambda: self.protocol.on_datagram(data, source, self._network.now))

    def handle(self, handle: Callable[[], None]) -> None:
        """Something arrives; a paused process gets it when it goes on."""
        if not self.running:
            return
        if self._paused:
            self._inbox.append(lambda: self.handle(handle))
            return
        handle()
        self._flush()

    def _poll(self) -> None:
        self._wake_at = None
        if self.running and not self._paused:
            self.protocol.poll(self._network.now)
            self._flush()

    def _flush(self) -> None:
        for action in self.protocol.take_actions():
            if isinstance(action, SendDatagram):
                self._network.send_datagram(self, action.address, action.data)
            else:
                self._exchange(action)
        deadline = self.protocol.next_deadline()
        if deadline is not None and (self._wake_at is None or deadline < self._wake_at):
            self._wake_at = deadline
            self._network.at(deadline, self._wake, deadline)

    def _wake(self, deadline: float) -> None:
        if self._wake_at == deadline:
            self._poll()

    def _exchange(self, action: Exchange) -> None:
        """Carry a request to the other node and its answer back, or fail as TCP would."""
        network = self._network
        token, limit = action.token, network.now + action.timeout
        answered = False

        def reply(message: StreamMessage | ExchangeFailed) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self.handle(lambda: self.protocol.on_reply(token, message, network.now))

        silence = ExchangeFailed(f"no answer within {action.timeout:g} s")
        network.at(limit, lambda: reply(silence))
        target = network.node_at(action.address)
        if target is None or not network.passes(self, target) or not network.passes(target, self):
            return
        if not target.running:
            network.at(network.now + network.delay(), lambda: reply(ExchangeFailed("refused")))
            return
        sent = self.seal(action.request)
        network.record(self, action.address, sent)

        def arrive() -> None:
            request = target.unseal(sent)
            if isinstance(request, ExchangeFailed):
                come_back(request)
                return
            answer = target.protocol.on_request(request, network.now)
            if not action.wants_reply:
                come_back(UserMessage(b""))
            else:
                come_back(answer or ExchangeFailed("it closed the connection"))

        def come_back(answer: StreamMessage | ExchangeFailed) -> None:
            if not network.passes(target, self):
                return
            if isinstance(answer, ExchangeFailed):
                network.at(network.now + network.delay(), lambda: reply(answer))
                return
            back = target.seal(answer)
            network.record(target, self.address, back)
            network.at(network.now + network.stream_delay(), lambda: reply(self.unseal(back)))

        # A connection is made before anything can be sent: one way there and back.
        connecting = network.stream_delay() + network.stream_delay()
        network.at(network.now + connecting + network.stream_delay(), lambda: target.handle(arrive))

    def seal(self, message: StreamMessage) -> bytes:
        """The bytes of a stream message."""
        data = self.protocol.envelope.seal_stream(encode_stream(message))
        self.protocol.stats.streams_out.add(message.TYPE, len(data))
        return data

    def unseal(self, data: bytes) -> StreamMessage | ExchangeFailed:
        """Read what came on a stream."""
        stats, size = self.protocol.stats, len(data)
        try:
            envelope = self.protocol.envelope
            if envelope.keyring is not None:
                envelope.encrypted_length(data[:STREAM_HEADER])
                data = envelope.open_stream(data[:STREAM_HEADER], data[STREAM_HEADER:])
            message = decode_stream(data)
            stats.streams_in.add(message.TYPE, size)
            return message
        except DecryptError:
            stats.count_undecryptable("a stream", self._network.now)
            return ExchangeFailed("it has another key", wrong_key=True)
