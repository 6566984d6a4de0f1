"""A real Traefik takes what is emitted: all of it, without an error in its log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from constellation_core import Health, HTTPCheck, Instance, Port, PublishedService
from constellation_core.model.route import TLS, Route, Sticky, TCPRoute
from constellation_core.testing.context import FakeContext
from constellation_plugin_traefik import TraefikPlugin
from constellation_plugin_traefik.config import TraefikConfig
from constellation_plugin_traefik.server import (
    StaticConfig,
    TraefikError,
    TraefikProcess,
    find_traefik,
)

pytestmark = pytest.mark.integration

USER = "u:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"
MIDDLEWARES: dict[str, Any] = {
    "add-prefix": {"addPrefix": {"prefix": "/x"}},
    "strip-prefix": {"stripPrefix": {"prefixes": ["/a", "/b"]}},
    "strip-prefix-regex": {"stripPrefixRegex": {"regex": ["/[a-z]+/[0-9]+"]}},
    "replace-path": {"replacePath": {"path": "/x"}},
    "replace-path-regex": {"replacePathRegex": {"regex": "^/a/(.*)", "replacement": "/b/$1"}},
    "chain": {"chain": {"middlewares": ["headers", "compress"]}},
    "ip-allow-list": {"ipAllowList": {"sourceRange": ["127.0.0.1/32", "10.0.0.0/8"]}},
    "headers": {
        "headers": {
            "customRequestHeaders": {"X-One": "1", "X-Gone": ""},
            "accessControlAllowOriginList": ["https://example.com"],
            "accessControlMaxAge": 100,
            "stsSeconds": 31536000,
            "frameDeny": True,
        }
    },
    "errors": {
        "errors": {"status": ["500-599"], "service": "noop@internal", "query": "/{status}.html"}
    },
    "rate-limit": {"rateLimit": {"average": 100, "burst": 50, "period": "1s"}},
    "redirect-regex": {
        "redirectRegex": {"regex": "^http://a/(.*)", "replacement": "http://b/${1}"}
    },
    "redirect-scheme": {"redirectScheme": {"scheme": "https", "permanent": True}},
    "basic-auth": {"basicAuth": {"users": [USER], "realm": "here"}},
    "digest-auth": {"digestAuth": {"users": ["u:traefik:a2688e031edb4be6a3797f3882655c05"]}},
    "forward-auth": {"forwardAuth": {"address": "http://127.0.0.1:9/auth"}},
    "in-flight": {"inFlightReq": {"amount": 10}},
    "buffering": {"buffering": {"maxRequestBodyBytes": 1000000}},
    "circuit-breaker": {"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.30"}},
    "compress": {"compress": {"minResponseBodyBytes": 1200}},
    "client-cert": {"passTLSClientCert": {"pem": True}},
    "retry": {"retry": {"attempts": 3, "initialInterval": "100ms"}},
    "content-type": {"contentType": {}},
    "grpc-web": {"grpcWeb": {"allowOrigins": ["*"]}},
}
TCP_MIDDLEWARES = {
    "few": {"inFlightConn": {"amount": 10}},
    "local": {"ipAllowList": {"sourceRange": ["127.0.0.1/32"]}},
}


@pytest.fixture(autouse=True)
def _traefik() -> None:
    try:
        find_traefik()
    except TraefikError as error:
        pytest.skip(str(error))


@asynccontextmanager
async def serving(*routes: tuple[str, Any], port: int = 0) -> AsyncIterator[str]:
    """A web server on loopback with these paths and handlers; its ``HOST:PORT``."""
    app = web.Application()
    for path, handler in routes:
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, number = runner.addresses[0][:2]
        yield f"{host}:{number}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def routed(
    context: FakeContext, folder: Path, *entry_points: str, **static: Any
) -> AsyncIterator[TraefikProcess]:
    """A Traefik that asks for the document made from the context's catalog."""
    paths = [(route.path, route.handler) for route in TraefikPlugin().api_routes(context)]
    async with serving(*paths) as provider:
        config = StaticConfig.on_free_ports(
            f"http://{provider}/api/traefik", entry_points or ("web",), poll_interval=0.2, **static
        )
        async with TraefikProcess(config, folder) as traefik:
            yield traefik


def context_with(**settings: Any) -> FakeContext:
    return FakeContext("traefik", config=TraefikConfig.model_validate(settings))


def instance(service: str, node: str, address: str) -> Instance:
    host, port = address.rsplit(":", 1)
    return Instance(f"{service}.{node}", service, node, host, {"http": int(port)}, Health.HEALTHY)


async def fetch(traefik: TraefikProcess, host: str, path: str = "/") -> tuple[int, str]:
    url = f"http://{traefik.config.entry_points['web']}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Host": host}) as answer,
    ):
        return answer.status, await answer.text()


async def test_every_middleware_and_every_kind_of_route_is_taken(tmp_path: Path) -> None:
    context = context_with(
        middlewares=MIDDLEWARES,
        tcp_middlewares=TCP_MIDDLEWARES,
        default_tcp_middlewares=["local"],
        tls={"options": {"modern": {"minVersion": "VersionTLS12", "sniStrict": True}}},
        servers_transport={"maxIdleConnsPerHost": 10},
        retry_in_flight=True,
    )
    catalog = context.catalog
    check = HTTPCheck("/health", port="http")
    catalog.publish(
        PublishedService(
            "web",
            ports=(Port("http"),),
            check=check,
            routes=(Route("web.example.com", sticky=Sticky("sid"), priority=7),),
        )
    )
    catalog.put(instance("web", "a", "127.0.0.1:9"))
    for name in MIDDLEWARES:
        route = Route(f"{name}.example.com", middlewares=(name,), entry_points=("web",))
        catalog.publish(PublishedService(f"with-{name}", ports=(Port("http"),), routes=(route,)))
    catalog.publish(
        PublishedService(
            "secure",
            ports=(Port("http"),),
            routes=(
                Route("secure.example.com", tls=TLS(options="modern")),
                Route("*.wild.example.com", path="/x"),
            ),
        )
    )
    catalog.publish(
        PublishedService(
            "db", ports=(Port("db"),), routes=(TCPRoute(port="db", entry_points=("db",)),)
        )
    )
    async with routed(context, tmp_path, "web", "db") as traefik:
        names = ["web", "secure", *(f"with-{name}" for name in MIDDLEWARES)]
        await traefik.wait_until_routed(names)
        await traefik.wait_until_routed(["db"], kind="tcp")
        middlewares = await traefik.api.objects("http", "middlewares")
        assert set(MIDDLEWARES) <= set(middlewares)
        wrong = {n: m.get("error") for n, m in middlewares.items() if m["status"] != "enabled"}
        assert not wrong
        services = await traefik.api.objects("http", "services")
        assert {s["status"] for s in services.values()} == {"enabled"}
        assert traefik.provider_errors() == []


async def test_one_bad_route_costs_that_route_and_no_other(tmp_path: Path) -> None:
    context = context_with()
    bad = [
        Route("bad.example.com", middlewares=("nowhere",)),
        Route("bad.example.com", path="/ok"),
    ]
    context.catalog.publish(PublishedService("bad", ports=(Port("http"),), routes=tuple(bad)))
    context.catalog.publish(
        PublishedService("good", ports=(Port("http"),), routes=(Route("good.example.com"),))
    )

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with serving(("/{path:.*}", hello)) as address, routed(context, tmp_path) as traefik:
        context.catalog.put(instance("good", "a", address), instance("bad", "a", address))
        await traefik.wait_until_routed(["good", "bad"])
        await traefik.wait_until(
            lambda: _answers(traefik, "good.example.com", (200, "hello")), 20, "to route"
        )
        assert (await fetch(traefik, "bad.example.com"))[0] == 404
        assert await fetch(traefik, "bad.example.com", "/ok") == (200, "hello")
        assert traefik.provider_errors() == []


async def _answers(traefik: TraefikProcess, host: str, expected: tuple[int, str]) -> bool:
    return await fetch(traefik, host) == expected


async def test_an_agent_that_starts_cold_leaves_traefiks_routes_alone(tmp_path: Path) -> None:
    context = context_with()
    context.catalog.publish(
        PublishedService("web", ports=(Port("http"),), routes=(Route("web.example.com"),))
    )

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    plugin_of = {"now": context}
    polls = 0

    async def document(request: web.Request) -> web.StreamResponse:
        nonlocal polls
        polls += 1
        (route, *_rest) = TraefikPlugin().api_routes(plugin_of["now"])
        return await route.handler(request)

    async with serving(("/hello", hello)) as address, serving(("/api/traefik", document)) as agent:
        context.catalog.put(instance("web", "a", address))
        config = StaticConfig.on_free_ports(f"http://{agent}/api/traefik", poll_interval=0.1)
        async with TraefikProcess(config, tmp_path) as traefik:
            await traefik.wait_until_routed(["web"])
            # The agent starts anew: first it knows nothing, then only that there is no route.
            for warm in (False, True):
                cold = context_with()
                cold.catalog.warm = warm
                plugin_of["now"] = cold
                before = polls
                async with asyncio.timeout(20):
                    while polls < before + 2:
                        assert await fetch(traefik, "web.example.com", "/hello") == (200, "hello")
            plugin_of["now"] = context
            assert await fetch(traefik, "web.example.com", "/hello") == (200, "hello")


async def test_requests_go_to_who_lives_and_new_ones_are_found(tmp_path: Path) -> None:
    context = context_with()
    context.catalog.publish(
        PublishedService("web", ports=(Port("http"),), routes=(Route("web.example.com"),))
    )

    def says(text: str) -> Any:
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(text=text)

        return handler

    async with (
        serving(("/", says("one"))) as one,
        serving(("/", says("two"))) as two,
        routed(context, tmp_path) as traefik,
    ):
        # 127.0.0.1:9 refuses: the retry goes to the other.
        context.catalog.put(instance("web", "a", one), instance("web", "b", "127.0.0.1:9"))
        await traefik.wait_until(
            lambda: _answers(traefik, "web.example.com", (200, "one")), 20, "to route"
        )
        for _ in range(20):
            assert await fetch(traefik, "web.example.com") == (200, "one")
        context.catalog.put(instance("web", "c", two))
        seen: set[str] = set()

        async def both() -> bool:
            seen.add((await fetch(traefik, "web.example.com"))[1])
            return seen == {"one", "two"}

        await traefik.wait_until(both, 20, "to use the new instance")
        context.catalog.remove("web.a")
        context.catalog.remove("web.c")
        context.catalog.remove("web.b")

        async def unavailable() -> bool:
            return (await fetch(traefik, "web.example.com"))[0] == 503

        await traefik.wait_until(unavailable, 20, "to have no instance")


async def test_secrets_of_middlewares_reach_traefik_and_no_problem_text(tmp_path: Path) -> None:
    context = context_with(middlewares={"login": {"basicAuth": {"users": [USER]}}})
    context.catalog.publish(
        PublishedService(
            "web",
            ports=(Port("http"),),
            routes=(Route("web.example.com", middlewares=("login",)),),
        )
    )
    assert USER not in repr(context.config)
    async with routed(context, tmp_path) as traefik:
        await traefik.wait_until_routed(["web"])
        assert (await fetch(traefik, "web.example.com"))[0] == 401
    assert json.loads((tmp_path / "traefik.yml").read_text())
