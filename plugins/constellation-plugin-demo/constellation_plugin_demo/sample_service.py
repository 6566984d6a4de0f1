"""The demo's service: answers every request with the name of its node.

A program of its own that imports little, to start fast: ``sample_service.py ADDRESS PORT NODE``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys


async def serve(address: str, port: int, node: str) -> None:
    """Answer HTTP/1.1 requests until SIGTERM."""
    body = json.dumps({"node": node}).encode() + b"\n"
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nX-Node: %s\r\n\r\n%s" % (len(body), node.encode(), body)
    )

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                # No request of the demo has a body.
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(handle, address, port)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
