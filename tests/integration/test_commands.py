"""Every command against two agents: tables for people, JSON for machines, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import pytest_asyncio

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until_so

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

SERVICES = """
import sys

from constellation_core import HTTPCheck, Port, Route, Service

hello = Service(
    "hello",
    command=(sys.executable, "-u", "-m", "http.server", "${PORT}", "--bind", "${ADDRESS}"),
    env={"PASSWORD": "hunter2"},
    ports=(Port("http"),),
    routes=(Route("hello.localhost"),),
    check=HTTPCheck("/", interval=0.5),
)
"""
PLUGINS = ("process", "monitor", "traefik")
Run = Callable[..., CompletedProcess[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("cmd")
    cluster = LocalCluster(folder, ["a", "b"], services=SERVICES, plugins=PLUGINS)
    async with cluster:
        await cluster.wait_until_whole(60)
        yield cluster


@pytest.fixture
def command(cluster: LocalCluster, cli: Any) -> Callable[..., Any]:
    async def run(*arguments: str, expect: int = 0, node: str = "a") -> CompletedProcess[str]:
        config = str(cluster.nodes[node].config_file)
        # In a thread: the cluster's own tasks must go on.
        done: CompletedProcess[str] = await asyncio.to_thread(
            cli, *arguments, "--config", config, expect=expect
        )
        assert "hunter2" not in done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("status", ["a", "ready", "PLUGIN", "traefik"]),
        ("members", ["NODE", "a (this node)", "b", "alive"]),
        ("services", ["hello.a", "hello.b", "healthy", "hello.localhost"]),
        ("events", ["hello.a starting → healthy"]),
        ("logs hello --lines 5", ["GET / HTTP/1.1"]),
        ("plugins list", ["monitor", "enabled"]),
        ("plugins info traefik", ["constellation-plugin-traefik"]),
        ("config show", ["gossip", "bind"]),
        ("config check", ["is right"]),
        ("verify", ["gossip.members", "ok", "0 fail"]),
        ("leases", []),
    ],
)
async def test_a_table_and_json(command: Any, words: str, shown: list[str]) -> None:
    table = await command(*words.split())
    text = " ".join(table.stdout.split())
    for each in shown:
        assert each in text
    assert "\x1b" not in table.stdout
    lines = (await command(*words.split(), "--json")).stdout.splitlines()
    assert all(json.loads(line) is not None for line in lines)
    assert lines or words == "leases"


async def test_the_keys_that_scripts_rely_on(command: Any) -> None:
    async def document(*words: str) -> Any:
        return json.loads((await command(*words, "--json")).stdout)

    status = await document("status")
    assert {"node", "version", "pid", "ready", "members", "gossip", "catalog", "tasks"} <= set(
        status
    )
    members = await document("members")
    assert {each["name"]: each["state"] for each in members} == {"a": "alive", "b": "alive"}
    (service,) = await document("services")
    assert service["healthy"] == 2
    assert {each["id"] for each in service["instances"]} == {"hello.a", "hello.b"}
    checks = (await document("verify"))["checks"]
    assert {each["status"] for each in checks} <= {"ok", "skip", "warn"}


async def test_restart_and_reload(command: Any, cluster: LocalCluster) -> None:
    assert json.loads((await command("restart", "hello.a", "--json")).stdout)
    done = await command("restart", "hello.b", expect=1)
    assert "node b" in done.stderr
    await cluster.wait_until_whole(60)
    services = cluster.nodes["a"].folder / "services.py"
    await asyncio.to_thread(services.write_text, SERVICES + "\nbroken = 1 / 0\n")
    done = await command("reload", expect=1)
    assert "services.py:15" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    await asyncio.to_thread(services.write_text, SERVICES)
    assert (await command("reload")).returncode == 0
    await cluster.wait_until_whole(60)


async def test_unknown_things_are_named(command: Any) -> None:
    done = await command("logs", "nothing", expect=1)
    assert "nothing" in done.stderr
    done = await command("plugins", "info", "nothing", expect=1)
    assert "nothing" in done.stderr


async def test_leaving_says_goodbye(tmp_path: Path, cli: Any) -> None:
    async with LocalCluster(tmp_path, ["a", "b"], services=None) as cluster:
        await cluster.wait_until_whole(60)
        config = str(cluster.nodes["b"].config_file)
        await asyncio.to_thread(cli, "leave", "--config", config)
        async with asyncio.timeout(30):
            while True:
                members = await cluster.get("a", "/api/v1/members")
                if {each["name"]: each["state"] for each in members}["b"] == "left":
                    break
                await asyncio.sleep(0.05)
        # Who has said goodbye is not missed.
        config = str(cluster.nodes["a"].config_file)
        assert not (await cluster.get("a", "/api/v1/status"))["isolated"]
        done = await asyncio.to_thread(cli, "verify", "--json", "--config", config)
        checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
        assert checks["gossip.members"]["detail"] == "1 nodes, all that are known answer"


STUBBORN = """
from constellation_core import Service

stubborn = Service(
    "stubborn", command=("sh", "-c", "trap '' TERM; while :; do sleep 1; done"), stop_grace=600
)
"""


async def test_a_second_signal_does_not_wait_for_services(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, ["a"], services=STUBBORN) as cluster:
        await cluster.wait_until_whole(60)
        log = cluster.nodes["a"].log_file
        os.kill(cluster.pid("a"), signal.SIGTERM)
        await until_so(lambda: "stubborn.a is stopped: stopping" in log.read_text(), 30, "its stop")
        await cluster.stop_node("a")
        text = log.read_text()
        assert "stopped at once" in text
        assert "Traceback" not in text
        assert "Warning:" not in text
