"""The agent's API for Traefik."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args

from aiohttp import web

from constellation_core import ApiRoute
from constellation_core.api.errors import error_response, json_response
from constellation_plugin_traefik.problems import Kind
from constellation_plugin_traefik.provider import Document, HeldBackError, Provider

_PARTS = ("routers", "services", "middlewares")
_RETRY_AFTER = "2"


def provider_routes(provider: Provider) -> list[ApiRoute]:
    """``/api/traefik``, ``/api/{http,tcp}/{routers,services,middlewares}`` and the problems."""

    async def document(request: web.Request) -> web.StreamResponse:
        try:
            found = provider.document()
        except HeldBackError as error:
            return _held_back(error)
        headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
        if _is_known(request, found):
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, headers=headers, content_type="application/json")

    async def problems(_request: web.Request) -> web.StreamResponse:
        return json_response([asdict(each) for each in provider.problems()])

    routes = [
        ApiRoute("GET", "/api/traefik", document, summary="Traefik's dynamic configuration"),
        ApiRoute("GET", "/api/traefik/problems", problems, summary="What is wrong with routes"),
    ]
    for kind in get_args(Kind):
        routes += [_part_route(provider, kind, name) for name in _PARTS]
    return routes


def _part_route(provider: Provider, kind: Kind, name: str) -> ApiRoute:
    async def part(_request: web.Request) -> web.StreamResponse:
        body = provider.part(kind, name)
        return web.Response(body=body, content_type="application/json")

    summary = f"The {kind.upper()} {name} of /api/traefik"
    return ApiRoute("GET", f"/api/{kind}/{name}", part, summary=summary)


def _is_known(request: web.Request, document: Document) -> bool:
    # Only to who asks for it: Traefik does not, and would take a 304 for an error.
    known = request.headers.get("If-None-Match", "")
    tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    return document.etag in tags or "*" in tags


def _held_back(error: HeldBackError) -> web.Response:
    return error_response(
        503,
        "cold",
        str(error),
        "Traefik keeps the routes it has and asks again",
        headers={"Retry-After": _RETRY_AFTER},
    )
