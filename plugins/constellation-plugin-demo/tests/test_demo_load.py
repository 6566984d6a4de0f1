"""The load counts what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until
from constellation_plugin_demo.load import Load
from constellation_plugin_demo.result import DemoResult


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """Answers every other request with 502."""
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        assert request.host == "hello.localhost"
        return web.Response(status=502 if count % 2 else 200, headers={"X-Node": "a"})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def run_until(load: Load, requests: int) -> None:
    stop = asyncio.Event()

    async def enough() -> bool:
        return load.stats.requests >= requests

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(stop))
        await until(enough, 10.0, "requests", interval=0.01)
        stop.set()


async def test_it_counts_answers_and_failures(server: str) -> None:
    load = Load(server, "hello.localhost", 500.0)
    await run_until(load, 40)
    stats = load.stats
    assert abs(stats.failed - stats.requests / 2) <= 1
    assert stats.reasons == {"status 502": stats.failed}
    assert stats.by_node == {"a": stats.requests - stats.failed}
    assert not stats.steady()


async def test_nobody_listening_is_a_failure() -> None:
    load = Load(f"http://127.0.0.1:{PortPicker().pick()}/", "hello.localhost", 500.0)
    await run_until(load, 20)
    assert load.stats.failed == load.stats.requests
    assert not load.stats.steady()


def test_the_result_is_ok_only_without_problems() -> None:
    result = DemoResult(3, 10, 0, {}, 1, (2.5,), ())
    assert result.document() == {
        "nodes": 3,
        "requests": 10,
        "failed": 0,
        "kills": 1,
        "reroute_seconds": [2.5],
        "ok": True,
    }
    assert not DemoResult(3, 10, 0, {}, 1, (), ("not whole",)).ok
