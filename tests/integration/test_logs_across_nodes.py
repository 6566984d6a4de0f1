"""``constellation logs`` for instances of another node, with two real agents."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until

pytestmark = pytest.mark.integration

CHATTER = """
import sys

from constellation_core import Service

WORDS = '''
import itertools, time
for number in itertools.count():
    print("line", number, flush=True)
    time.sleep(0.1)
'''

chatter = Service("chatter", command=(sys.executable, "-u", "-c", WORDS))
"""


@asynccontextmanager
async def two_agents(folder: Path) -> AsyncIterator[LocalCluster]:
    # Who does not vote asks nobody about it: the streams that are counted are those of logs.
    quiet = {"consensus": {"vote": False}}
    async with LocalCluster(
        folder, ["a", "b"], services=CHATTER, plugins=["process"], settings=quiet
    ) as cluster:
        await cluster.wait_until_whole(60)
        yield cluster


class Follower:
    """``constellation logs INSTANCE --follow --json`` on node a."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            return json.loads(await self.process.stdout.readline())

    async def end(self) -> tuple[int | None, str]:
        """Its exit code and what it said on standard error."""
        async with asyncio.timeout(60):
            _, errors = await self.process.communicate()
        return self.process.returncode, errors.decode()


@asynccontextmanager
async def follow(cluster: LocalCluster, instance: str) -> AsyncIterator[Follower]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "constellation_core.cli", "logs", instance, "--follow", "--json", "-n", "2"),
        *("--config", str(cluster.nodes["a"].config_file)),
        env={k: v for k, v in os.environ.items() if not k.startswith("CONSTELLATION")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Follower(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def streams(cluster: LocalCluster, node: str) -> Any:
    return (await cluster.get(node, "/api/v1/status"))["gossip"]["streams"]


async def test_logs_of_another_node_as_long_as_it_is_there(tmp_path: Path, cli: Any) -> None:
    async with two_agents(tmp_path) as cluster:
        config = str(cluster.nodes["a"].config_file)

        async def command(*words: str, expect: int = 0) -> Any:
            return await asyncio.to_thread(cli, *words, "--config", config, expect=expect)

        async def some_lines() -> bool:
            return "line 5" in (await command("logs", "chatter.b")).stdout

        await until(some_lines, 30, "lines of the other node's instance")
        lines = [
            json.loads(line)
            for line in (await command("logs", "chatter.b", "-n", "3", "--json")).stdout.split("\n")
            if line
        ]
        assert [line["stream"] for line in lines] == ["stdout"] * 3
        numbers = [int(line["text"].removeprefix("line ")) for line in lines]
        assert numbers == list(range(numbers[0], numbers[0] + 3))

        # What is written after the question was asked comes too, and nothing is left out.
        async with follow(cluster, "chatter.b") as follower:
            first = int((await follower.line())["text"].removeprefix("line "))
            for number in range(first + 1, first + 20):
                assert (await follower.line())["text"] == f"line {number}"
            assert (await streams(cluster, "b"))["incoming"] == 1
            follower.process.send_signal(signal.SIGINT)
            await follower.end()

        async def closed() -> bool:
            return bool((await streams(cluster, "b"))["incoming"] == 0)

        await until(closed, 30, "the end of the stream after its reader's")

        done = await command("logs", "nothing.b", expect=1)
        assert "nothing.b" in done.stderr

        # Paused: the connection comes about, and nothing answers.
        os.kill(cluster.pid("b"), signal.SIGSTOP)
        try:
            done = await command("logs", "chatter.b", expect=1)
        finally:
            os.kill(cluster.pid("b"), signal.SIGCONT)
        assert "node b" in done.stderr
        assert "hint:" in done.stderr

        async with follow(cluster, "chatter.b") as follower:
            await follower.line()
            await cluster.kill("b")
            code, errors = await follower.end()
            assert code == 1
            assert "node b gives no logs: the connection was lost" in errors

        async def dead() -> bool:
            members = await cluster.get("a", "/api/v1/members")
            return any(each["name"] == "b" and each["state"] == "dead" for each in members)

        await until(dead, 60, "b is known as dead")
        done = await command("logs", "chatter.b", expect=1)
        assert "chatter.b runs on node b, which is dead" in done.stderr
        assert "when it is back" in done.stderr
