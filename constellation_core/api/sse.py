"""Server-sent events (HTML living standard, section 9.2) from the journal."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from constellation_core.api.backend import Journal

_HEARTBEAT = 15.0
_SEND_TIMEOUT = 10.0
_MOST_STREAMS = 64


class EventStreams:
    """All streams of events that are open."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether no further stream is accepted."""
        return len(self._open) >= _MOST_STREAMS

    async def serve(self, request: web.Request, since: int) -> web.StreamResponse:
        """Send the events after ``since`` until the client goes away."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        task = asyncio.create_task(self._send(response, since))
        self._open.add(task)
        try:
            await task
        except (ConnectionError, TimeoutError):
            # The client is gone, or too slow to be waited for.
            pass
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                raise
        finally:
            self._open.discard(task)
        return response

    async def close(self) -> None:
        """End all streams."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _send(self, response: web.StreamResponse, since: int) -> None:
        events = self._journal.follow(since)
        following = asyncio.ensure_future(anext(events))
        try:
            while True:
                done, _ = await asyncio.wait((following,), timeout=_HEARTBEAT)
                if done:
                    event = following.result()
                    following = asyncio.ensure_future(anext(events))
                    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
                    text = f"id: {event['id']}\nevent: {event['kind']}\ndata: {data}\n\n"
                else:
                    text = ": still here\n\n"
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await response.write(text.encode())
        finally:
            following.cancel()
