"""The voters' network: listens, dials, and promises nothing before the journal is durable.

What is to be sent waits in an outbox until :meth:`Transport.flush`, which calls ``persist``
first: every acknowledgement and vote is on this voter's disk before another hears of it, and one
sync covers all of a turn. A leader's entries go out right before the sync, so that all disks work
at the same time; it is over before an answer to them is looked at, so the leader has what it
counts as its own. What comes is handed on only from a finished handshake, and only when it is a
valid message. Runs on the engine's thread.
"""

from __future__ import annotations

import logging
import math
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from constellation_core.consensus.engine.commands import split_address
from constellation_core.consensus.engine.connection import Connection, ConnectionLost
from constellation_core.consensus.engine.messages import (
    Message,
    MessageError,
    decode_message,
    encode_message,
    leaves_early,
)
from constellation_core.consensus.engine.peers import Peers
from constellation_core.consensus.interface import Unavailable

_log = logging.getLogger(__name__)

_HANDSHAKE = 3.0
_SILENCE = 3.5
_ALIVE = 1.0
_MAX_UNPROVEN = 64
_MAX_PROVEN = 64
_LOG_INTERVAL = 5.0
_KEEP_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Handlers:
    """What is called for what comes; all of it from :meth:`Transport.poll` or ``flush``."""

    connected: Callable[[str], None]
    disconnected: Callable[[str], None]
    received: Callable[[str, Message], None]


class Transport:
    """Connections to the other voters.

    Args:
        bind: IP literal and port to listen on.
        peers: who is dialled, and how each side proves itself.
        persist: makes the journal durable.
        clock: seconds.

    Raises:
        Unavailable: the address cannot be bound.
    """

    def __init__(
        self,
        bind: tuple[str, int],
        peers: Peers,
        persist: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._persist = persist
        self._clock = clock
        self._handlers = Handlers(lambda _: None, lambda _: None, lambda _, __: None)
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._current: dict[str, Connection] = {}
        self._outbox: list[tuple[str, bytes]] = []
        self._early = True
        self._logged = -_LOG_INTERVAL
        self.refused = 0
        """How often something was refused."""
        self._listener = _listen(bind)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._awake = False
        self._kept = -math.inf
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)

    def attach(self, handlers: Handlers) -> None:
        """Say who handles what comes."""
        self._handlers = handlers

    # Called by the replica.

    def send(self, voter: str, message: Message) -> bool:
        """Queue a message for the next :meth:`flush`; false when there is no connection."""
        if voter not in self._current:
            return False
        self._outbox.append((voter, encode_message(message)))
        self._early = self._early and leaves_early(message)
        return True

    def know(self, voter: str, address: str) -> None:
        """Keep a connection to this voter."""
        self._peers.know(voter, address)

    def forget(self, voter: str) -> None:
        """Seek no connection to this voter any more; one that exists stays."""
        self._peers.forget(voter)

    def backlog(self, voter: str) -> int:
        """Bytes that wait to be sent to this voter, at the socket and in the outbox."""
        connection = self._current.get(voter)
        queued = sum(len(data) for to, data in self._outbox if to == voter)
        return queued + (connection.backlog if connection is not None else 0)

    # Called by the engine.

    def wake(self) -> None:
        """End a :meth:`poll` that waits; from any thread."""
        if self._awake:
            # It has not been noticed yet, so what was done before this call is not either.
            return
        self._awake = True
        try:
            self._wake_writer.send(b"\0")
        except (BlockingIOError, OSError):
            # It is full, so the other thread will wake; or closed, so it has ended.
            return

    def poll(self, timeout: float) -> None:
        """Wait for something to come, for so many seconds, and handle it."""
        for connection in self._connections:
            blocked = connection.backlog > 0
            if blocked != connection.blocked:
                connection.blocked = blocked
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
                self._selector.modify(connection, events, connection)
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._wake_reader:
                self._wake_reader.recv(4096)
                # In this order: a call of wake() in between is noticed by this turn.
                self._awake = False
            elif key.fileobj is self._listener:
                self._accept()
            elif key.data in self._connections:
                self._serve(key.data, events)
        self._keep()

    def flush(self) -> None:
        """Make the journal durable, and send what waits.

        Raises:
            OSError: the journal could not be written; nothing was promised.
        """
        if self._early:
            self._send_all()
        self._persist()
        self._send_all()
        self._early = True

    def _send_all(self) -> None:
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        now = self._clock()
        for voter, data in outbox:
            connection = self._current.get(voter)
            if connection is not None:
                self._attempt(connection, partial(connection.send, data, now))

    def close(self) -> None:
        """Close all; nothing more is sent."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._current.clear()
        self._listener.close()
        self._wake_reader.close()
        self._wake_writer.close()
        self._selector.close()

    # Connections.

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unproven = [each for each in self._connections if each.peer is None and not each.dialled]
        if len(unproven) >= _MAX_UNPROVEN:
            # A voter proves itself within milliseconds: whoever waits longest goes.
            oldest = min(unproven, key=lambda each: each.since)
            self._lose(oldest, ConnectionLost("too many wait to prove themselves", refused=True))
        self._add(Connection(sock, self._peers.listener(), address[0], self._clock()))

    def _dial(self, voter: str, address: str) -> None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, self._peers.dialler(voter), address, self._clock())
        self._add(connection)
        try:
            sock.connect((host, port))
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(connection, ConnectionLost(str(error)))

    def _add(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._attempt(connection, connection.write)
        if events & selectors.EVENT_READ and connection in self._connections:
            before = connection.peer
            self._attempt(connection, lambda: connection.read(self._clock(), self._receive))
            if before is None and connection.peer and connection in self._connections:
                self._proven(connection, connection.peer)

    def _receive(self, connection: Connection, frame: bytes) -> None:
        peer = connection.peer
        if peer is None:
            raise ConnectionLost("a frame before the handshake", refused=True)
        if self._current.get(peer) is not connection and not self._proven(connection, peer):
            raise ConnectionLost("there is another connection to this voter")
        if not frame:
            return
        try:
            message = decode_message(frame)
        except MessageError as error:
            raise ConnectionLost(str(error), refused=True) from error
        self._handlers.received(peer, message)

    def _proven(self, connection: Connection, peer: str) -> bool:
        """A handshake is done: of two connections, that dialled by the lesser id stays."""
        current = self._current.get(peer)
        if current is connection:
            return True
        if current is None and len(self._current) >= _MAX_PROVEN:
            self._lose(connection, ConnectionLost("there are too many voters", refused=True))
            return False
        if current is not None:
            crossed = current.dialled != connection.dialled
            if crossed and connection.dialled != self._peers.dials_first(peer):
                self._lose(connection, ConnectionLost("there is another one"))
                return False
            self._lose(current, ConnectionLost("a newer one took its place"))
        self._current[peer] = connection
        self._handlers.connected(peer)
        return True

    def _attempt(self, connection: Connection, act: Callable[[], None]) -> None:
        try:
            act()
        except ConnectionLost as lost:
            self._lose(connection, lost)

    def _lose(self, connection: Connection, why: ConnectionLost) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._selector.unregister(connection)
        connection.close()
        peer = connection.peer
        if connection.dialled and peer is None:
            self._peers.failed(connection.address)
        if peer is not None and self._current.get(peer) is connection:
            del self._current[peer]
            self._handlers.disconnected(peer)
        if why.refused:
            self.refused += 1
            if self._clock() - self._logged >= _LOG_INTERVAL:
                self._logged = self._clock()
                _log.warning("refused %s: %s", connection.address, why)

    def _keep(self) -> None:
        """Cut off who is silent or slow, show that this voter is alive, dial who is missing."""
        now = self._clock()
        if now - self._kept < _KEEP_INTERVAL:
            return
        self._kept = now
        for connection in list(self._connections):
            if connection.peer is None:
                if now - connection.since > _HANDSHAKE:
                    slow = "it was too slow to prove itself"
                    self._lose(connection, ConnectionLost(slow, refused=not connection.dialled))
            elif now - connection.heard > _SILENCE:
                self._lose(connection, ConnectionLost("it is silent"))
            elif now - connection.said > _ALIVE:
                self._attempt(connection, partial(connection.send, b"", now))
        dialling = {each.address for each in self._connections if each.dialled and not each.peer}
        for voter, address in self._peers.due(now):
            if voter not in self._current and address not in dialling:
                self._dial(voter, address)


def _listen(bind: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(bind)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {bind[0]}:{bind[1]}: {error}") from error
    return listener
