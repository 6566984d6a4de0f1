"""Clients that are too many, or that do not come to the point."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from constellation_core.api.connections import Connections

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(most: int, header_timeout: float) -> AsyncIterator[tuple[Connections, int]]:
    async def hello(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    server = web.Server(hello)
    connections = Connections(server, most=most, header_timeout=header_timeout)
    listening = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    try:
        yield connections, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(1.0)


async def test_a_client_that_says_little_is_closed_and_makes_room() -> None:
    async with serving(2, 0.2) as (connections, port), asyncio.timeout(20):
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX:")
        refused, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await refused.read()).startswith(b"HTTP/1.1 503")
        writer.close()
        for reader, writer in slow:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        while connections.open:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_client_that_has_asked_in_time_stays_however_it_sent_it() -> None:
    async with serving(1, 1.0) as (connections, port), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in REQUEST:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(1.2)
        writer.write(REQUEST)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        assert connections.open == 1
        writer.close()
        while connections.open:
            await asyncio.sleep(0.01)
