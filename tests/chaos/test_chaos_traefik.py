"""The agent that Traefik asks is killed with its service, and comes back cold: nobody notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from constellation_core.testing.waiting import until_so
from constellation_plugin_demo.fleet import HOST, DemoFleet
from constellation_plugin_demo.load import Load
from constellation_plugin_traefik.server import TraefikError, find_traefik

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


async def test_killing_the_agent_that_traefik_asks_loses_no_request(tmp_path: Path) -> None:
    try:
        find_traefik()
    except TraefikError as error:
        pytest.skip(str(error))
    async with DemoFleet(tmp_path, ["a", "b", "c"]) as fleet:
        await fleet.wait_until_whole()
        load = Load(fleet.url, HOST, 100)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(stop))
            await until_so(lambda: set(load.stats.by_node) == {"a", "b", "c"}, 30, "all to answer")
            await fleet.cluster.kill("a")
            before = load.stats.requests
            # Long enough for Traefik to have polled in vain, and to have been held back then.
            await until_so(lambda: load.stats.requests > before + 500, 60, "500 more requests")
            answered = load.stats.by_node["a"]
            await fleet.cluster.start_node("a")
            await fleet.cluster.wait_until_whole(60)
            await until_so(lambda: load.stats.by_node["a"] > answered + 20, 60, "a to answer again")
            stop.set()
        assert load.stats.failed == 0, dict(load.stats.reasons)
