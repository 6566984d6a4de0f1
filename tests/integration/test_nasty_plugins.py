"""Plugins that would end, hang or confuse an agent: it and the other plugins go on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures/plugins/constellation-plugin-nasty"
SERVICES = """
import sys

from constellation_core import Port, Service, TCPCheck

web = Service(
    "web",
    command=(sys.executable, "-m", "http.server", "${PORT}", "--bind", "127.0.0.1"),
    ports=(Port("http"),),
    check=TCPCheck(),
)
"""
FAILED = {
    "exits-when-made": "SystemExit: on purpose",
    "exits-in-config": "SystemExit: on purpose",
    "exits-in-start": "SystemExit: on purpose",
    "exits-in-events": "instance_changed raised SystemExit: on purpose",
    "interrupts-in-events": "instance_changed raised KeyboardInterrupt",
    "cancels-in-events": "instance_changed raised CancelledError",
    "hangs": "longer than 10 s",
    "blocks": "held up the event loop",
    "gives-no-model": "no usable model",
    "gives-no-routes": "not an ApiRoute",
    "gives-a-head-route": "HEAD",
    "takes-a-route": "/api/v1/status belongs to core",
    "gives-no-checks": "verify_checks",
    "gives-no-driver": "not a RuntimeDriver",
    "gives-no-sources": "not a PeerSource",
    "gives-no-specs": "register_hookspecs",
}
ODD = ("exits-in-tasks", "answers-badly", "takes-commands")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution installed in it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*command, str(FIXTURE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalCluster]:
    """Two agents with all of them enabled, before the good ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        async with LocalCluster(
            tmp_path_factory.mktemp("fleet"),
            ["a", "b"],
            services=SERVICES,
            plugins=(*FAILED, *ODD, "process", "monitor"),
        ) as running:
            # Half a minute is what the slowest of them together may cost at the start.
            await running.wait_until_whole(60.0)
            yield running


@pytest.fixture
def command(cluster: LocalCluster, site: Path, cli: Any) -> Any:
    """The command line of node a."""
    return type(cli)(cluster.nodes["a"].folder, {"PYTHONPATH": str(site)})


async def test_each_is_failed_with_its_reason_and_the_others_work(cluster: LocalCluster) -> None:
    async def listed() -> dict[str, dict[str, Any]] | None:
        # Those that fail at events are taken out after some of them.
        await cluster.post("a", "/api/v1/instances/web.a/restart")
        plugins = {each["name"]: each for each in await cluster.get("a", "/api/v1/plugins")}
        return plugins if all(plugins[name]["state"] == "failed" for name in FAILED) else None

    plugins = await until(listed, 60.0, "all of them to fail", interval=0.3)
    for name, reason in FAILED.items():
        assert reason in plugins[name]["reason"], name
    for name in ("process", "monitor", *ODD):
        assert plugins[name]["state"] == "enabled", name
    await cluster.wait_until_whole()


async def test_stray_tasks_that_exit_are_told_and_do_not_end_the_agent(
    cluster: LocalCluster,
) -> None:
    status = await cluster.get("a", "/api/v1/status")
    tasks = {task["owner"]: task for task in status["tasks"]}
    assert tasks["exits-in-tasks"]["last_error"] == "SystemExit: on purpose"
    log = cluster.nodes["a"].log_file.read_text()
    assert log.count("a plugin's task raised SystemExit: on purpose; the agent goes on") == 2
    assert "Traceback" not in log


async def test_routes_that_answer_badly_are_errors_of_their_own(cluster: LocalCluster) -> None:
    for path in ("/api/nothing", "/api/leave"):
        with pytest.raises(OSError, match="500"):
            await cluster.get("a", path)
    with pytest.raises(OSError, match="404"):
        await cluster.get("a", "/api/own")


async def test_the_command_line_works_and_says_what_is_wrong(command: Any) -> None:
    done = command("verify", "--json", expect=1)
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["answers-badly.nothing"]["status"] == "fail"
    assert "SystemExit" in checks["answers-badly.exits"]["detail"]
    assert checks["gossip.members"]["status"] == "ok"
    done = command("config", "check", expect=2)
    assert "config_model gave no model, but a str" in done.stderr
    # Advice is for names that are not there.
    assert "did you mean" not in done.stderr
    assert command("config", "show").stdout
    assert command("status").stdout
    assert command("fine").stdout == "fine\n"
    assert "web" in command("services").stdout


async def test_the_end_is_orderly_and_in_time(cluster: LocalCluster) -> None:
    began = time.monotonic()
    await cluster.stop_node("b")
    log = cluster.nodes["b"].log_file.read_text()
    # Were it killed because it did not end, this would not be there.
    assert "ending without it" in log or time.monotonic() - began < 10
    assert "hangs:stubborn takes no notice of its cancellation" in log

    async def left() -> bool:
        members = await cluster.get("a", "/api/v1/members")
        return {each["name"]: each["state"] for each in members}.get("b", "left") == "left"

    await until(left, 20.0, "node b to have said goodbye")


async def test_an_agent_is_told_to_stop_while_a_plugin_hangs(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(site))
    async with LocalCluster(
        tmp_path, ["a"], services=SERVICES, plugins=("hangs", "process")
    ) as one:

        async def answers() -> bool:
            try:
                return not (await one.get("a", "/api/v1/status"))["ready"]
            except OSError:
                return False

        await until(answers, 20.0, "the agent to start")
        async with asyncio.timeout(14):
            await one.stop_node("a")
        log = one.nodes["a"].log_file.read_text()
        assert "SIGTERM: stopping" in log
        assert "runs: gossip on" not in log
