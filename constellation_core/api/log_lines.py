"""Sends log lines to a client as they come, one JSON object a line, until it goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

from constellation_core.api.errors import RefusedError
from constellation_core.runtime import LogLine

_LOOK_EVERY = 1.0
"""Seconds. Nothing tells a handler that has nothing to send that nobody listens any more."""


async def send_lines(request: web.Request, lines: AsyncIterator[LogLine]) -> web.StreamResponse:
    """Answer ``request`` with ``lines``.

    When these fail in the middle, the last line is an object with ``error``, as in other answers.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    coming = asyncio.ensure_future(anext(lines))
    try:
        while True:
            done, _ = await asyncio.wait((coming,), timeout=_LOOK_EVERY)
            if _is_gone(request):
                return response
            if done:
                line = coming.result()
                coming = asyncio.ensure_future(anext(lines))
                document = {"at": line.at, "stream": line.stream, "text": line.text}
                await response.write(_encode(document))
    except StopAsyncIteration:
        pass
    except RefusedError as error:
        await response.write(_encode({"error": error.document()}))
    except (ConnectionError, asyncio.CancelledError):
        if not _is_gone(request):
            raise
    finally:
        coming.cancel()
        # The iterator must not run any more when its owner closes it.
        await asyncio.gather(coming, return_exceptions=True)
    return response


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="replace") + b"\n"
