"""One HTTP request and its answer, with what matters here: whether any of it was sent."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp

from constellation_core.consensus import Unavailable, Unknown
from constellation_plugin_etcd.answers import Unreachable, failure

Document = dict[str, Any]

LARGEST = 64 * 1024 * 1024
"""Bytes of an answer: all that the store takes at most, as base64 in JSON, and room to spare."""

_CONNECT = 1.0


class Sending:
    """A request on its way.

    Attributes:
        sent: something of it may have left this machine.
    """

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class Exchange:
    """Sends requests. To be used in one event loop; connects when it is first used.

    Args:
        tls: for ``https``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(
        self,
        member: str,
        path: str,
        body: Document,
        headers: Mapping[str, str],
        sending: Sending,
    ) -> aiohttp.ClientResponse:
        """The response, of which the status is good and the body not yet read.

        Raises:
            Refusal: it was answered that it is not done.
            Unreachable: nothing was sent.
            Unknown: it may be done.
        """
        try:
            response = await self._http().post(
                member + path,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json", **headers},
                allow_redirects=False,
                trace_request_ctx=sending,
            )
        except (aiohttp.ClientError, OSError) as error:
            if sending.sent:
                raise Unknown("the connection broke") from error
            raise Unreachable(f"{member} cannot be reached: {_why(error)}") from error
        if response.status == 200:
            return response
        raise failure(await read(response))

    async def close(self) -> None:
        """End all connections; nothing can be sent any more."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Unreachable("the etcd client is closed")
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_request_headers_sent.append(_note_sent)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
                trace_configs=[tracing],
            )
        return self._session


async def read(response: aiohttp.ClientResponse) -> Document:
    """All of a response.

    Raises:
        Unknown: the connection broke, or it is no JSON object, or too large.
    """
    data = bytearray()
    try:
        async with response:
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > LARGEST:
                    raise Unknown(f"more than {LARGEST} bytes in an answer")
    except (aiohttp.ClientError, OSError) as error:
        raise Unknown("the connection broke") from error
    return _parsed(bytes(data))


async def read_elements(
    response: aiohttp.ClientResponse, silence: float
) -> AsyncGenerator[Document, None]:
    """The lines of a response, until there was none for ``silence`` seconds.

    Raises:
        Unavailable: it ended, or the connection broke.
        Unknown: a line is no JSON object.
    """
    data = bytearray()
    while True:
        try:
            async with asyncio.timeout(silence):
                chunk = await response.content.readany()
        except TimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable("the connection broke") from error
        if not chunk:
            raise Unavailable("the member ended it")
        data += chunk
        if len(data) > LARGEST:
            raise Unavailable(f"more than {LARGEST} bytes in a line")
        if b"\n" not in chunk:
            continue
        *lines, rest = bytes(data).split(b"\n")
        data = bytearray(rest)
        for line in lines:
            if line:
                yield _parsed(line)


async def _note_sent(_session: object, context: SimpleNamespace, _params: object) -> None:
    # Called right before the first byte is written.
    context.trace_request_ctx.sent = True


def _why(error: Exception) -> str:
    # aiohttp's texts repeat the address, and asyncio's hide the reason.
    cause = getattr(error, "certificate_error", getattr(error, "os_error", error))
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {cause.reason}"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(cause) or type(cause).__name__


def _parsed(data: bytes) -> Document:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unknown("what answered does not speak etcd's JSON")
    return document
