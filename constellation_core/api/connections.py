"""How many clients there may be on TCP, and how long one may take to say what it wants.

aiohttp bounds neither: clients that connect and say little would in the end take every file
descriptor that the agent may have, and with them its gossip and its services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

MOST_CONNECTIONS = 256
HEADER_TIMEOUT = 10.0
"""Seconds from the connection to the end of the first request's headers."""

_END_OF_HEADERS = b"\r\n\r\n"
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
    b"Connection: close\r\n\r\n"
)


class Connections:
    """Makes the protocol of each new connection, and counts those that are open.

    Args:
        factory: makes what serves a connection.
        most: how many may be open at once; further ones are answered with 503.
        header_timeout: seconds for the headers of the first request.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        *,
        most: int = MOST_CONNECTIONS,
        header_timeout: float = HEADER_TIMEOUT,
    ) -> None:
        self._factory = factory
        self._most = most
        self.header_timeout = header_timeout
        self.open = 0

    def __call__(self) -> asyncio.Protocol:
        """For ``loop.create_server``."""
        if self.open >= self._most:
            return _Refused()
        return _Connection(self._factory(), self)


class _Connection(asyncio.Protocol):
    """Hands everything on; closes a client that does not come to the point."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.open += 1
        self._deadline = asyncio.get_running_loop().call_later(
            self._connections.header_timeout, cast(asyncio.Transport, transport).abort
        )
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            # The mark may come in pieces.
            self._end = (self._end + data)[-len(data) - len(_END_OF_HEADERS) :]
            if _END_OF_HEADERS in self._end:
                self._in_time()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._connections.open -= 1
        self._inner.connection_lost(exc)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._end = b""


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.Transport, transport)
        writer.write(_REFUSAL)
        writer.close()
