"""One TCP connection between two voters: a handshake, then frames. Never blocks."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TypeAlias

from constellation_core.consensus.engine.frames import FrameError, Opener, Sealer
from constellation_core.consensus.engine.handshake import (
    ANSWER_LENGTH,
    CONFIRM_LENGTH,
    HELLO_LENGTH,
    Dialler,
    Established,
    HandshakeError,
    Listener,
)

Side: TypeAlias = Dialler | Listener
_READ = 64 * 1024
MAX_BACKLOG = 32 * 1024 * 1024
"""Bytes that may wait to be sent; who reads more slowly than that is cut off."""


class ConnectionLost(Exception):  # noqa: N818
    """The connection is over; the text says why. ``refused``: the other side is to blame."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Connection:
    """A connection, from its socket on.

    Args:
        sock: non-blocking; connecting, or accepted.
        side: this side of the handshake.
        address: the other side's, for messages to people.
        now: seconds.
    """

    def __init__(self, sock: socket.socket, side: Side, address: str, now: float) -> None:
        self._sock = sock
        self._side = side
        self.address = address
        self.since = now
        """When it began."""
        self.heard = now
        """When something was last read."""
        self.said = now
        """When something was last to be sent."""
        self.peer: str | None = None
        """The other voter's id, once the handshake is done."""
        self.blocked = False
        """For who waits until the socket takes more."""
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._connecting = isinstance(side, Dialler)
        if isinstance(side, Dialler):
            self._outgoing += side.hello

    @property
    def dialled(self) -> bool:
        """Whether this side connected."""
        return isinstance(self._side, Dialler)

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._outgoing)

    def fileno(self) -> int:
        """The socket's, for a selector."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def send(self, plaintext: bytes, now: float) -> None:
        """Send a frame, now or as soon as the socket takes it.

        Raises:
            ConnectionLost: it cannot be sent.
        """
        if self._sealer is None:
            raise ConnectionLost("there is no session yet")
        self.said = now
        self._outgoing += self._sealer.seal(plaintext)
        if len(self._outgoing) > MAX_BACKLOG:
            raise ConnectionLost("it reads too slowly", refused=True)
        self.write()

    def write(self) -> None:
        """Write what the socket takes.

        Raises:
            ConnectionLost: the other side is gone.
        """
        if self._connecting:
            problem = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                raise ConnectionLost(errno.errorcode.get(problem, str(problem)))
            self._connecting = False
        try:
            while self._outgoing:
                # A copy of a bounded piece: the buffer cannot shrink while it is looked into.
                sent = self._sock.send(bytes(self._outgoing[:_READ]))
                del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def read(self, now: float, receive: Callable[[Connection, bytes], None]) -> None:
        """Read what has come, and hand on each frame; the handshake is dealt with here.

        Raises:
            ConnectionLost: the other side is gone, or refused.
        """
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        if not data:
            before = "" if self.peer else " before it proved who it is"
            raise ConnectionLost(f"it closed the connection{before}")
        self.heard = now
        try:
            if self._opener is None:
                data = self._shake_hands(data)
            if self._opener is None:
                return
            for frame in self._opener.feed(data):
                receive(self, frame)
        except (HandshakeError, FrameError) as error:
            raise ConnectionLost(str(error), refused=True) from error

    def _shake_hands(self, data: bytes) -> bytes:
        """Go on with the handshake; gives what came behind it."""
        self._incoming += data
        if isinstance(self._side, Dialler):
            if (answer := self._take(ANSWER_LENGTH)) is not None:
                confirm, session = self._side.answered(answer)
                self._outgoing += confirm
                self._establish(session)
                self.write()
        elif not self._side.greeted_already:
            if (hello := self._take(HELLO_LENGTH)) is not None:
                self._outgoing += self._side.greeted(hello)
                self.write()
                return self._shake_hands(b"")
        elif (confirm_ := self._take(CONFIRM_LENGTH)) is not None:
            self._establish(self._side.confirmed(confirm_))
        rest = bytes(self._incoming)
        if self._opener is None:
            return b""
        self._incoming.clear()
        return rest

    def _take(self, length: int) -> bytes | None:
        if len(self._incoming) < length:
            return None
        taken = bytes(self._incoming[:length])
        del self._incoming[:length]
        return taken

    def _establish(self, session: Established) -> None:
        self.peer = str(session.peer)
        self._sealer = Sealer(session.send_key)
        self._opener = Opener(session.receive_key)
