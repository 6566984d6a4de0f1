"""The demo as a user runs it: it heals, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from constellation_plugin_traefik.server import TraefikError, find_traefik

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _needs_traefik() -> None:
    try:
        find_traefik()
    except TraefikError as error:
        pytest.skip(f"traefik: {error}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as the paths of unix sockets have to be."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@pytest.fixture
def demo(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the demo with its temporary files in ``folder``."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        # Where the tests themselves run under nohup, the demo would rightly ignore the signal too.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "constellation_core.cli", "demo", *arguments],
                env={**os.environ, "TMPDIR": str(folder)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGHUP, before)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def left_behind(folder: Path) -> list[str]:
    """Command lines of the processes that have ``folder`` in their environment or arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(words.decode(errors="replace").replace("\0", " ")[:200])
    return found


def wait_until_nothing_is_left(folder: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := left_behind(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command_line(pid: int) -> list[str]:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    except OSError:
        return []


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if words in line:
            return
        said.append(line)
    pytest.fail(f"the demo ended with {process.wait()} before it said {words!r}: {''.join(said)}")


def wait_for_load(process: subprocess.Popen[str]) -> None:
    wait_for(process, "requests: curl")


def test_it_survives_a_kill_and_prints_one_line(
    demo: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = demo("--duration", "6", "--chaos", "--json", "--seed", "1")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = json.loads(output)
    assert list(result) == ["nodes", "requests", "failed", "kills", "reroute_seconds", "ok"]
    assert result["nodes"] == 3
    assert result["requests"] > 100
    assert result["kills"] >= 1
    assert len(result["reroute_seconds"]) == result["kills"]
    assert result["failed"] <= max(1, result["requests"] // 1000)
    assert result["ok"] is True
    assert left_behind(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_leaves_nothing(
    demo: Callable[..., subprocess.Popen[str]], folder: Path, number: signal.Signals
) -> None:
    process = demo("--json")
    wait_for_load(process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(output)["ok"] is True
    assert left_behind(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("line", ["starting", "kill -9"])
def test_told_to_end_while_not_whole_it_leaves_nothing_either(
    demo: Callable[..., subprocess.Popen[str]], folder: Path, line: str
) -> None:
    process = demo("--json", "--chaos")
    wait_for(process, line)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(output)["ok"] is False
    assert "not whole: stopped while" in errors
    assert left_behind(folder) == []
    assert list(folder.iterdir()) == []


def test_an_agent_that_ends_by_itself_is_named(
    demo: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = demo("--json", "--duration", "1", "--nodes", "2")
    wait_for_load(process)
    config = next(folder.glob("*/node-b/agent.toml"))
    (agent,) = [pid for pid in pids() if str(config) in command_line(pid)]
    os.kill(agent, signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(output)["ok"] is False
    assert "not whole: node-b ended with -9" in errors
    # There may be something to learn from its log.
    assert str(next(folder.iterdir())) in errors


def test_killed_it_leaves_no_process(
    demo: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = demo("--json", "--nodes", "2")
    wait_for_load(process)
    process.kill()
    process.communicate(timeout=60)
    wait_until_nothing_is_left(folder, 30)


@pytest.mark.parametrize(
    "arguments", [("--nodes", "1"), ("--duration", "-1"), ("--rate", "x"), ("--colour",)]
)
def test_wrong_arguments_are_refused(
    demo: Callable[..., subprocess.Popen[str]], arguments: tuple[str, ...]
) -> None:
    process = demo(*arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert arguments[0] in errors
    assert "Traceback" not in errors
