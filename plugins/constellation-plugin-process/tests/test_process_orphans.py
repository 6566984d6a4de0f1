"""No process outlives its agent, however that ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from constellation_core.testing.waiting import until_so
from constellation_plugin_process import keeper

# An agent's driver in a process of its own: a service with children in other sessions.
AGENT = """
import asyncio, logging, sys
from pathlib import Path
from constellation_core import Service
from constellation_core.agent.clock import SystemClock
from constellation_core.runtime import InstanceSpec
from constellation_plugin_process.config import ProcessConfig
from constellation_plugin_process.driver import ProcessDriver

async def main():
    driver = ProcessDriver(
        ProcessConfig(orphan_grace=0.2), Path(sys.argv[1]), SystemClock(), logging.getLogger()
    )
    script = "trap '' TERM; setsid sleep 1001 & sleep 1002 & while :; do sleep 1; done"
    service = Service("web", command=("sh", "-c", script))
    await driver.start(InstanceSpec("web.a", service, "a", "127.0.0.1"))
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def start_agent(folder: Path) -> subprocess.Popen[bytes]:
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(folder)], stdout=subprocess.PIPE, cwd=folder
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"started\n"
    return agent


def services(folder: Path) -> list[int]:
    """The processes of the agent of this folder that are no keeper: the service and its kin."""
    return keeper.marked((folder / "mark").read_text().strip())


async def test_nothing_survives_an_agent_that_is_killed(tmp_path: Path) -> None:
    agent = start_agent(tmp_path)
    try:
        await until_so(lambda: len(services(tmp_path)) >= 4, 20, "the service and its children")
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        assert agent.stdout is not None
        agent.stdout.close()
    await until_so(lambda: not services(tmp_path), 20, "the end of all processes")


async def test_what_a_dead_keeper_left_is_stopped_by_the_next_life(tmp_path: Path) -> None:
    mark = "0123456789abcdef"
    (tmp_path / "mark").write_text(mark + "\n")
    orphan = await asyncio.create_subprocess_exec(
        "sleep", "1003", env={keeper.VARIABLE: mark}, start_new_session=True
    )
    agent = start_agent(tmp_path)
    try:
        async with asyncio.timeout(20):
            assert await orphan.wait() == -signal.SIGTERM
    finally:
        agent.kill()
        agent.wait()
        assert agent.stdout is not None
        agent.stdout.close()
    await until_so(lambda: not services(tmp_path), 20, "the end of all processes")


async def test_processes_of_others_are_left_alone() -> None:
    other = await asyncio.create_subprocess_exec(
        "sleep", "1004", env={keeper.VARIABLE: "another"}, start_new_session=True
    )
    try:
        assert keeper.stop_marked("mine", 0.1) == 0
        assert other.returncode is None
        assert keeper.marked("another") == [other.pid]
    finally:
        other.kill()
        await other.wait()
