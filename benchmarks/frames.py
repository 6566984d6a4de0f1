"""MessagePack lists over a stream, each behind four bytes of length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgpack


class Frames(asyncio.Protocol):
    """One side of a connection.

    Args:
        received: called with this side and each list that comes.
        lost: called when the connection has ended.
    """

    def __init__(
        self,
        received: Callable[[Frames, list[Any]], None],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, fields: list[Any]) -> None:
        """Send a list; to nobody when the connection has ended."""
        if self._transport is not None:
            data: bytes = msgpack.packb(fields)
            self._transport.write(len(data).to_bytes(4, "big") + data)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio's."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            fields = msgpack.unpackb(self._buffer[4:end])
            del self._buffer[:end]
            self._received(self, fields)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """As asyncio's."""
        self._transport = None
        self._lost()
