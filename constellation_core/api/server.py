"""Serves the API on TCP and on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from constellation_core.api.backend import Backend
from constellation_core.api.connections import Connections
from constellation_core.api.errors import RefusedError, error_response, json_response
from constellation_core.api.routes import CoreRoutes
from constellation_core.api.routing import ApiRoute, Handler
from constellation_core.api.sse import EventStreams
from constellation_core.plugins.guard import contained, explain, place

log = logging.getLogger("constellation.api")

_MAX_BODY = 1024 * 1024
_MAX_SOCKET_PATH = 107
_OWNER = "core"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""HEAD is not among them: every GET answers it, as aiohttp does by itself."""


class ApiBindError(Exception):
    """The API's address or socket cannot be used; the text says which and what to do."""


class RouteConflictError(Exception):
    """Two routes have the same method and path."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Where to serve, and to whom.

    Attributes:
        host, port: TCP address; port 0 takes a free one.
        socket_path: the unix socket.
        socket_mode: its file mode.
        token: lets callers over TCP change things; ``None`` when nobody may.
    """

    host: str
    port: int
    socket_path: Path
    socket_mode: int = 0o660
    token: str | None = None


class ApiServer:
    """The API of one agent.

    Args:
        config: addresses and access.
        backend: the agent.
    """

    def __init__(self, config: ApiConfig, backend: Backend) -> None:
        self._config = config
        self._streams = EventStreams(backend.journal)
        self._routes: dict[tuple[str, str], tuple[str, ApiRoute]] = {}
        self._runners: list[web.AppRunner] = []
        self._listening: asyncio.Server | None = None
        self._socket_made = False
        self.address: tuple[str, int] = (config.host, config.port)
        self.add_routes(_OWNER, CoreRoutes(backend, self._streams).routes())
        index = ApiRoute("GET", "/api/v1", self._index, summary="This list")
        self.add_routes(_OWNER, [index])

    def add_routes(self, owner: str, routes: Iterable[ApiRoute]) -> None:
        """Add the routes of a plugin, all or none. To be called before :meth:`start`.

        Raises:
            RouteConflictError: when one is taken; the text names by whom.
            ValueError: when a route is not well formed.
        """
        added: dict[tuple[str, str], tuple[str, ApiRoute]] = {}
        for route in routes:
            _require_form(route)
            key = (route.method.upper(), route.path)
            taken = self._routes.get(key) or added.get(key)
            if taken is not None:
                raise RouteConflictError(f"{key[0]} {key[1]} belongs to {taken[0]} already")
            if key[0] != "GET" and route.access != "control":
                raise ValueError(f"{key[0]} {key[1]} changes things, so its access is control")
            # aiohttp's own check of the pattern, on a router that is thrown away.
            web.UrlDispatcher().add_route(key[0], route.path, route.handler)
            added[key] = (owner, route)
        self._routes.update(added)

    async def start(self) -> None:
        """Listen.

        Raises:
            ApiBindError: when an address or the socket cannot be used.
        """
        await self._listen_tcp()
        await self._listen_unix()

    async def close(self) -> None:
        """End all streams, finish what is being answered, and stop listening."""
        await self._streams.close()
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._socket_made:
            # Only our own: what stands there may as well be another agent's.
            with contextlib.suppress(OSError):
                self._config.socket_path.unlink()
            self._socket_made = False

    # --- listening ---------------------------------------------------------------------------

    async def _listen_tcp(self) -> None:
        runner = await self._runner(self._tcp_access)
        host, port = self._config.host, self._config.port
        try:
            # No TCPSite, which has no say in how many clients there may be.
            listening = await asyncio.get_running_loop().create_server(
                Connections(cast(Callable[[], asyncio.Protocol], runner.server)), host, port
            )
        except OSError as error:
            await runner.cleanup()
            reason = {
                errno.EADDRINUSE: "another process uses it",
                errno.EADDRNOTAVAIL: "no interface of this host has it",
                errno.EACCES: "ports below 1024 need privileges",
            }.get(error.errno or 0, error.strerror or str(error))
            raise ApiBindError(
                f"cannot listen on {host}:{port} (API): {reason}; change [api] bind"
            ) from None
        self._runners.append(runner)
        self._listening = listening
        bound = listening.sockets[0].getsockname()
        self.address = (str(bound[0]), int(bound[1]))

    async def _listen_unix(self) -> None:
        path = self._config.socket_path
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise ApiBindError(
                f"the path of the socket is longer than {_MAX_SOCKET_PATH} bytes: {path}; "
                "choose a shorter [agent] data_dir, or [api] socket"
            )
        _remove_stale(path)
        runner = await self._runner(self._no_check)
        # Nobody may connect between the making of the file and the setting of its mode.
        before = os.umask(0o777 & ~self._config.socket_mode)
        try:
            site = web.UnixSite(runner, str(path))
            await site.start()
            self._socket_made = True
            path.chmod(self._config.socket_mode)
        except OSError as error:
            await runner.cleanup()
            raise ApiBindError(f"cannot make the socket {path}: {error.strerror}") from None
        finally:
            os.umask(before)
        self._runners.append(runner)

    async def _runner(self, access: Callable[[ApiRoute, Handler], Handler]) -> web.AppRunner:
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[_json_errors])
        for (method, path), (owner, route) in self._routes.items():
            handler = access(route, _isolated(owner, route))
            if method == "GET":
                app.router.add_get(path, handler)
            else:
                app.router.add_route(method, path, handler)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=3.0,
            logger=_http_log(),
        )
        await runner.setup()
        return runner

    # --- access ------------------------------------------------------------------------------

    @staticmethod
    def _no_check(_route: ApiRoute, handler: Handler) -> Handler:
        return handler

    def _tcp_access(self, route: ApiRoute, handler: Handler) -> Handler:
        if route.access == "read":
            return handler

        async def guarded(request: web.Request) -> web.StreamResponse:
            if self._config.token is None:
                return error_response(
                    403,
                    "read-only",
                    "the API is read-only over TCP",
                    f"use the unix socket {self._config.socket_path}, or set [api] control = true "
                    "with a token_file",
                )
            # What a client sends need not be text; aiohttp keeps such bytes as surrogates.
            given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
            if not hmac.compare_digest(given, f"Bearer {self._config.token}".encode()):
                return error_response(
                    401,
                    "token",
                    "this needs the token of [api] token_file",
                    "send it as: Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return await handler(request)

        return guarded

    async def _index(self, _request: web.Request) -> web.Response:
        routes = [
            {
                "method": method,
                "path": path,
                "access": route.access,
                "owner": owner,
                "summary": route.summary,
            }
            for (method, path), (owner, route) in sorted(self._routes.items())
        ]
        return json_response(routes)


def _require_form(route: ApiRoute) -> None:
    """Refuse what would only fail when it is served.

    Raises:
        ValueError: saying what is wrong.
    """
    texts = (route.method, route.path, route.summary)
    if not all(isinstance(text, str) for text in texts) or not callable(route.handler):
        raise ValueError("a route has a method, a path, a handler and a summary")
    if route.method.upper() not in _METHODS:
        raise ValueError(f"the method {route.method!r} is none of {', '.join(_METHODS)}")
    if not route.path.startswith("/"):
        raise ValueError(f"the path {route.path!r} does not begin with '/'")
    if route.access not in ("read", "control"):
        raise ValueError(f"the access {route.access!r} is neither 'read' nor 'control'")


def _isolated(owner: str, route: ApiRoute) -> Handler:
    """The handler of a route; what it raises becomes a 500 that names its owner."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            response = await contained(_handled(route, request))
            if not isinstance(response, web.StreamResponse):
                raise TypeError(f"the handler gave a {type(response).__name__}, no response")
            return response
        except web.HTTPException:
            raise
        except RefusedError as error:
            return error_response(error.status, error.code, str(error), error.hint)
        except Exception as error:  # a plugin's handler may raise anything
            what = f"{route.method} {route.path} of {owner}"
            log.error("%s failed: %s, at %s", what, explain(error), place(error))
            log.debug("%s", what, exc_info=error)
            return error_response(
                500, "failed", f"{route.path} of {owner} failed with {type(error).__name__}"
            )

    return handler


async def _handled(route: ApiRoute, request: web.Request) -> web.StreamResponse:
    # Called in here, so that a handler that is no async function fails like one that raises.
    return await route.handler(request)


@web.middleware
async def _json_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        message = error.text if error.status == 400 and error.text else error.reason
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return error_response(
            error.status, error.reason.lower().replace(" ", "-"), message, "GET /api/v1", headers
        )


def _http_log() -> logging.Logger:
    """A logger for aiohttp: what a client sends may be anything, and is no news of the agent."""
    logger = logging.getLogger("constellation.api.http")
    logger.filters = [_is_news]
    return logger


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        log.debug("not an HTTP request: %s", " ".join(str(error).split()))
        return False
    return True


def _remove_stale(path: Path) -> None:
    """Remove the socket of an agent that ended without doing so; never one that is in use."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ApiBindError(f"{path} is not a socket; remove it, or set another [api] socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise ApiBindError(f"another agent answers on {path}; stop it, or set another [api] socket")
