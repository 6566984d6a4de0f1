"""The core's own routes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from constellation_core.api.backend import Backend
from constellation_core.api.errors import error_response, json_response
from constellation_core.api.log_lines import send_lines
from constellation_core.api.routing import ApiRoute
from constellation_core.api.sse import EventStreams

_MOST_LINES = 10_000


class CoreRoutes:
    """Handlers over a backend."""

    def __init__(self, backend: Backend, streams: EventStreams) -> None:
        self._backend = backend
        self._streams = streams

    def routes(self) -> Sequence[ApiRoute]:
        """All routes of the core."""
        return [
            ApiRoute("GET", "/healthz", self._healthz, summary="Whether the agent runs"),
            ApiRoute("GET", "/readyz", self._readyz, summary="Whether the agent can serve"),
            ApiRoute("GET", "/api/v1/status", self._status, summary="This agent and its cluster"),
            ApiRoute("GET", "/api/v1/members", self._members, summary="Nodes"),
            ApiRoute("GET", "/api/v1/services", self._services, summary="Services in the fleet"),
            ApiRoute("GET", "/api/v1/instances", self._instances, summary="Instances in the fleet"),
            ApiRoute("GET", "/api/v1/leases", self._leases, summary="Who owns what"),
            ApiRoute("GET", "/api/v1/consensus", self._consensus, summary="Voters and leader"),
            ApiRoute(
                "GET", "/api/v1/consensus/backup", self._backup, "control", "A copy of the state"
            ),
            ApiRoute("GET", "/api/v1/events", self._events, summary="Events; SSE when asked for"),
            ApiRoute("GET", "/api/v1/plugins", self._plugins, summary="Plugins and their states"),
            ApiRoute("GET", "/api/v1/verify", self._verify, "control", "Run all checks"),
            ApiRoute("GET", "/api/v1/instances/{id}/logs", self._logs, "control", "What it wrote"),
            ApiRoute(
                "POST", "/api/v1/instances/{id}/restart", self._restart, "control", "Restart it"
            ),
            ApiRoute("POST", "/api/v1/reload", self._reload, "control", "Load the services anew"),
            ApiRoute("POST", "/api/v1/leave", self._leave, "control", "Leave and end"),
        ]

    async def _healthz(self, _request: web.Request) -> web.Response:
        return json_response({"ok": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = list(self._backend.not_ready())
        document = {"ready": not reasons, "reasons": reasons}
        return json_response(document, status=503 if reasons else 200)

    async def _status(self, _request: web.Request) -> web.Response:
        return json_response(self._backend.status())

    async def _members(self, _request: web.Request) -> web.Response:
        return json_response(self._backend.members())

    async def _services(self, _request: web.Request) -> web.Response:
        return json_response(self._backend.services())

    async def _instances(self, request: web.Request) -> web.Response:
        wanted = request.query.get("service")
        instances = self._backend.instances()
        if wanted is not None:
            instances = [each for each in instances if each["service"] == wanted]
        return json_response(instances)

    async def _leases(self, _request: web.Request) -> web.Response:
        return json_response(self._backend.leases())

    async def _consensus(self, _request: web.Request) -> web.Response:
        return json_response(self._backend.consensus())

    async def _backup(self, _request: web.Request) -> web.Response:
        content = await self._backend.consensus_backup()
        return web.Response(body=content, content_type="application/octet-stream")

    async def _plugins(self, _request: web.Request) -> web.Response:
        return json_response(self._backend.plugins())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        since = _number(request.headers.get("Last-Event-ID") or request.query.get("since"), 0)
        if "text/event-stream" not in request.headers.get("Accept", ""):
            return json_response(self._backend.journal.documents_after(since))
        if self._streams.full:
            return error_response(503, "too-many-streams", "too many event streams are open")
        return await self._streams.serve(request, since)

    async def _verify(self, _request: web.Request) -> web.Response:
        return json_response(await self._backend.verify())

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        tail = min(_number(request.query.get("tail"), 100), _MOST_LINES)
        follow = request.query.get("follow") == "true"
        instance_id = request.match_info["id"]
        async with AsyncExitStack() as stack:
            logs = self._backend.logs(instance_id, tail=tail, follow=follow)
            try:
                lines = await stack.enter_async_context(logs)
            except KeyError:
                return self._unknown(instance_id)
            return await send_lines(request, lines)

    async def _restart(self, request: web.Request) -> web.Response:
        instance_id = request.match_info["id"]
        try:
            await self._backend.restart(instance_id)
        except KeyError:
            return self._unknown(instance_id)
        return json_response({"restarted": instance_id})

    async def _reload(self, _request: web.Request) -> web.Response:
        return json_response(await self._backend.reload())

    async def _leave(self, _request: web.Request) -> web.Response:
        # Said before it is done: the answer needs the server that is about to end.
        asyncio.get_running_loop().call_later(0.1, self._backend.shut_down)
        return json_response({"leaving": True})

    def _unknown(self, instance_id: str) -> web.Response:
        for each in self._backend.instances():
            if each["id"] == instance_id:
                return error_response(
                    404,
                    "not-here",
                    f"{instance_id} runs on node {each['node']}",
                    f"ask the agent on {each['node']}",
                )
        return error_response(
            404, "unknown-instance", f"there is no instance {instance_id}", "constellation services"
        )


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return max(0, int(text))
    except ValueError:
        raise web.HTTPBadRequest(text=f"{text[:40]!r} is not a number") from None
