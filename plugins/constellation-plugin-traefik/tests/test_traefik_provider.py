"""What an agent answers to Traefik: the document, or an error where it would wipe routes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from constellation_core import Health, Instance, Port, PublishedService
from constellation_core.model.node import Node, NodeState
from constellation_core.model.route import Route
from constellation_core.testing.context import FakeContext
from constellation_plugin_traefik import TraefikPlugin
from constellation_plugin_traefik.config import TraefikConfig

WEB = PublishedService("web", ports=(Port("http"),), routes=(Route("web.example.com"),))
Client = TestClient[web.Request, web.Application]


def instance(node: str = "node-b", address: str = "10.0.0.2") -> Instance:
    return Instance(f"web.{node}", "web", node, address, {"http": 80}, Health.HEALTHY)


def node(name: str, state: NodeState) -> Node:
    return Node(name, "10.0.0.9", 7946, state)


@pytest.fixture
def context() -> FakeContext:
    context = FakeContext("traefik", config=TraefikConfig())
    context.catalog.warm = True
    return context


@pytest.fixture
async def client(context: FakeContext) -> AsyncIterator[Client]:
    app = web.Application()
    for route in TraefikPlugin().api_routes(context):
        app.router.add_route(route.method, route.path, route.handler)
    async with TestClient(TestServer(app)) as client:
        yield client


async def status(client: Client) -> int:
    async with client.get("/api/traefik") as answer:
        return answer.status


async def test_the_document_has_a_tag_that_saves_the_next_answer(
    context: FakeContext, client: Client
) -> None:
    context.catalog.publish(WEB)
    context.catalog.put(instance())
    async with client.get("/api/traefik") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        document, tag = await answer.json(), answer.headers["ETag"]
    assert set(document["http"]) >= {"routers", "services"}
    for known, expected in ((tag, 304), (f"W/{tag}", 304), ('"other"', 200), (f'"x", {tag}', 304)):
        async with client.get("/api/traefik", headers={"If-None-Match": known}) as answer:
            assert answer.status == expected
    context.catalog.put(instance("node-c", "10.0.0.3"))
    async with client.get("/api/traefik", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 200
        assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("kind", ["http", "tcp"])
@pytest.mark.parametrize("part", ["routers", "services", "middlewares"])
async def test_the_parts_are_those_of_the_document(
    context: FakeContext, client: Client, kind: str, part: str
) -> None:
    context.catalog.publish(WEB)
    context.catalog.put(instance())
    async with client.get("/api/traefik") as answer:
        document = await answer.json()
    async with client.get(f"/api/{kind}/{part}") as answer:
        assert await answer.json() == document.get(kind, {}).get(part, {})


async def test_problems_name_the_service(context: FakeContext, client: Client) -> None:
    context.catalog.publish(
        PublishedService(
            "web", ports=(Port("http"),), routes=(Route("web.example.com", middlewares=("no",)),)
        )
    )
    async with client.get("/api/traefik/problems") as answer:
        (problem,) = await answer.json()
    assert problem["service"] == "web"
    assert "no" in problem["text"]


async def test_nothing_is_given_before_the_fleet_is_known(
    context: FakeContext, client: Client
) -> None:
    context.catalog.warm = False
    context.catalog.publish(WEB)
    async with client.get("/api/traefik") as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["error"]["code"] == "cold"
    context.catalog.warm = True
    assert await status(client) == 200


async def test_an_agent_without_any_route_waits_before_it_says_so(
    context: FakeContext, client: Client
) -> None:
    assert await status(client) == 503
    await context.clock.advance(14)
    assert await status(client) == 503
    await context.clock.advance(2)
    async with client.get("/api/traefik") as answer:
        assert answer.status == 200
        assert json.loads(await answer.text()) == {}


async def test_the_last_route_that_goes_is_taken_away(context: FakeContext, client: Client) -> None:
    context.catalog.publish(WEB)
    assert await status(client) == 200
    context.catalog.withdraw("web")
    async with client.get("/api/traefik") as answer:
        assert (answer.status, await answer.json()) == (200, {})


async def test_a_node_that_is_cut_off_takes_no_routes_away(
    context: FakeContext, client: Client
) -> None:
    context.catalog.set_nodes([node("node-b", NodeState.ALIVE)])
    context.catalog.publish(WEB)
    assert await status(client) == 200
    context.catalog.withdraw("web")
    context.catalog.set_nodes([node("node-b", NodeState.DEAD)])
    assert await status(client) == 503
    context.catalog.set_nodes([node("node-b", NodeState.ALIVE)])
    assert await status(client) == 200
    context.catalog.set_nodes([node("node-b", NodeState.LEFT)])
    assert await status(client) == 200


async def test_verify_tells_what_is_wrong(context: FakeContext) -> None:
    plugin = TraefikPlugin()
    document, routers = plugin.verify_checks(context)
    assert (await document.run()).status == "warn"
    context.catalog.publish(WEB)
    assert (await document.run()).status == "ok"
    assert (await routers.run()).status == "skip"
    context.catalog.publish(
        PublishedService("api", ports=(Port("http"),), routes=(Route("x", middlewares=("no",)),))
    )
    result = await document.run()
    assert result.status == "fail"
    assert "api" in result.detail


async def test_verify_asks_traefik_and_says_when_it_is_gone() -> None:
    context = FakeContext("traefik", config=TraefikConfig(api_url="http://127.0.0.1:9"))
    context.catalog.publish(WEB)
    _, routers = TraefikPlugin().verify_checks(context)
    result = await routers.run()
    assert result.status == "fail"
    assert "does not answer" in result.detail
