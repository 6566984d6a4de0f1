"""Plugins of others, good ones and bad ones, installed like any distribution."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).resolve().parents[2]
GOOD = ROOT / "examples" / "constellation-plugin-hello"
BAD = sorted((ROOT / "tests" / "fixtures" / "plugins").iterdir())
SERVICES = """
import sys

from constellation_core import DriverCheck, Service

sleeper = Service(
    "sleeper", command=(sys.executable, "-c", "import time; time.sleep(600)"), check=DriverCheck()
)
"""
ENABLED = (
    "raises-at-import",
    "bad-entry",
    "future",
    "not-there",
    "raises-everywhere",
    "raises-in-events",
    "process",
    "monitor",
    "hello",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distributions installed in it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run(
        [*command, str(GOOD), *map(str, BAD)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalCluster]:
    """Two agents with all of them enabled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        async with LocalCluster(
            tmp_path_factory.mktemp("fleet"), ["a", "b"], services=SERVICES, plugins=ENABLED
        ) as running:
            await running.wait_until_whole()
            yield running


@pytest.fixture
def command(cluster: LocalCluster, site: Path, cli: Any) -> Any:
    """The command line of node a."""
    return type(cli)(cluster.nodes["a"].folder, {"PYTHONPATH": str(site)})


def by_name(text: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(text)}


async def plugins_of(cluster: LocalCluster) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in await cluster.get("a", "/api/v1/plugins")}


REASONS = {
    "raises-at-import": "RuntimeError: no luck today",
    "bad-entry": "Missing",
    "future": "needs constellation-core >=99",
    "not-there": "not installed",
    "raises-everywhere": "raised on purpose",
}


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
async def test_a_bad_plugin_is_listed_as_failed_with_the_reason(
    cluster: LocalCluster, name: str, reason: str
) -> None:
    plugin = (await plugins_of(cluster))[name]
    assert plugin["state"] == "failed"
    assert reason in plugin["reason"]


async def test_the_command_line_lists_them_too(command: Any) -> None:
    listed = {
        each["name"]: each for each in json.loads(command("plugins", "list", "--json").stdout)
    }
    assert {name for name, each in listed.items() if each["state"] == "failed"} >= set(REASONS)
    assert listed["hello"]["state"] == "enabled"
    table = command("plugins", "list").stdout
    assert "no luck today" in " ".join(table.split())


async def test_without_an_agent_the_list_says_the_same(site: Path, cli: Any) -> None:
    command = type(cli)(cli.folder, {"PYTHONPATH": str(site)})
    command("init", "--json")
    for name in ("raises-at-import", "bad-entry", "future", "raises-everywhere", "hello"):
        command("plugins", "enable", name)
    listed = {
        each["name"]: each for each in json.loads(command("plugins", "list", "--json").stdout)
    }
    for name in ("raises-at-import", "bad-entry", "future", "raises-everywhere"):
        assert listed[name]["state"] == "failed"
        assert REASONS[name] in listed[name]["reason"]
    assert listed["hello"]["state"] == "enabled"


async def test_a_plugin_that_raises_at_every_event_is_taken_out(cluster: LocalCluster) -> None:
    async def restart_until_failed() -> dict[str, Any] | None:
        await cluster.post("a", "/api/v1/instances/sleeper.a/restart")
        plugin = (await plugins_of(cluster))["raises-in-events"]
        return plugin if plugin["state"] == "failed" else None

    plugin = await until(restart_until_failed, 30.0, "the plugin to be taken out", interval=0.2)
    assert "instance_changed raised ValueError: cannot bear sleeper" in plugin["reason"]


async def test_the_agent_and_the_good_plugins_work_all_the_same(cluster: LocalCluster) -> None:
    await cluster.wait_until_whole()
    names = {
        name for name, each in (await plugins_of(cluster)).items() if each["state"] == "enabled"
    }
    assert names >= {"process", "monitor", "hello"}


async def test_the_good_one_gets_events_and_answers_on_its_route(cluster: LocalCluster) -> None:
    async def heard() -> dict[str, Any] | None:
        answer: dict[str, Any] = await cluster.get("a", "/api/hello")
        return answer if {"node_joined", "health_changed"} <= answer["heard"].keys() else None

    answer = await until(heard, 20.0, "events of the other node")
    assert answer["greeting"] == "Hello"
    assert answer["nodes"] == 2


async def test_the_good_one_adds_a_command(command: Any) -> None:
    assert "hello" in command("--help").stdout
    assert command("hello").stdout == "Hello from a, which knows 2 nodes.\n"


async def test_the_good_one_adds_a_check(command: Any) -> None:
    rows = json.loads(command("verify", "--json", expect=None).stdout)
    checks = {each["name"]: each for each in rows["checks"]}
    assert checks["hello.greeting"]["status"] == "ok"
    for name in REASONS:
        assert checks[f"plugin.{name}"]["status"] == "fail"


async def test_the_command_line_works_with_all_of_them_enabled(command: Any) -> None:
    for words in (
        ["status"],
        ["members"],
        ["services"],
        ["config", "show"],
        ["plugins", "info", "hello"],
    ):
        command(*words)


async def test_enabling_keeps_the_comments(site: Path, cli: Any) -> None:
    command = type(cli)(cli.folder, {"PYTHONPATH": str(site)})
    command("init", "--json")
    config = cli.folder / "agent.toml"
    before = config.read_text()
    command("plugins", "enable", "hello")
    after = config.read_text()
    assert '"hello"' in after
    assert [line for line in before.splitlines() if line.startswith("#")] == [
        line for line in after.splitlines() if line.startswith("#")
    ]
    assert "hello" in command("--help").stdout
    command("plugins", "disable", "hello")
    assert config.read_text() == before
