"""The driver with real processes: environment, logs, stopping, restarting."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from constellation_core import InitJob, Port, Resources, Restart, Security, Service, Tmpfs
from constellation_core.agent.clock import SystemClock
from constellation_core.runtime import InstanceSpec, Phase, RuntimeStatus
from constellation_core.testing.waiting import until_so
from constellation_plugin_process import keeper
from constellation_plugin_process.config import ProcessConfig
from constellation_plugin_process.driver import ProcessDriver

LOG = logging.getLogger("constellation.plugins.process")
FAST = Restart(delay=0.01, max_delay=0.05, reset_after=30, crash_loop_after=3)
FOREVER = ("sleep", "1000")


class Recorder:
    """Keeps what the driver reports."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.statuses: list[RuntimeStatus] = []

    def status_changed(self, instance_id: str, status: RuntimeStatus) -> None:
        assert instance_id == "web.node-a"
        self.statuses.append(status)
        if not self.phases or self.phases[-1] is not status.phase:
            self.phases.append(status.phase)


class Bench:
    """A driver with one instance."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.events = Recorder()
        self.driver = ProcessDriver(ProcessConfig(**config), folder, SystemClock(), LOG)
        self.driver.attach(self.events)

    async def start(self, *command: str, **settings: Any) -> None:
        settings.setdefault("restart", FAST)
        service = Service("web", command=command, **settings)
        await self.driver.start(InstanceSpec("web.node-a", service, "node-a", "127.0.0.1"))

    async def python(self, code: str, **settings: Any) -> None:
        await self.start(sys.executable, "-c", code, **settings)

    def processes(self) -> list[int]:
        """All that run for instances of this driver."""
        return keeper.marked((self.folder / "mark").read_text().strip())

    @property
    def status(self) -> RuntimeStatus:
        status = self.driver.status("web.node-a")
        assert status is not None
        return status

    async def reached(self, condition: Callable[[RuntimeStatus], bool]) -> RuntimeStatus:
        await until_so(lambda: condition(self.status), 20, f"another status than {self.status}")
        return self.status

    async def lines(self, count: int) -> list[str]:
        """The first ``count`` lines of the log, waited for."""
        texts: list[str] = []
        async for line in self.driver.logs("web.node-a", tail=1000, follow=True):
            texts.append(f"{line.stream} {line.text}")
            if len(texts) == count:
                break
        return texts


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "process")
    yield bench
    await bench.driver.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_an_instance_gets_its_environment_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    await bench.python(
        "import os, sys; print(sorted(os.environ)); print(os.getcwd()); print(sys.argv[1:])\n"
        "print(os.environ['URL'])\nimport time; time.sleep(1000)",
        env={"URL": "http://${NODE}:${PORT_HTTP}/${INSTANCE}", "PYTHONUNBUFFERED": "1"},
        ports=(Port("http"),),
    )
    names, folder, _, url = await bench.lines(4)
    port = bench.status.ports["http"]
    assert "SECRET_OF_THE_AGENT" not in names
    for name in ("NODE", "SERVICE", "INSTANCE", "ADDRESS", "PORT", "PORT_HTTP", "PATH", "URL"):
        assert f"'{name}'" in names
    assert folder == f"stdout {bench.folder}/run/web.node-a"
    assert url == f"stdout http://node-a:{port}/web.node-a"


async def test_a_working_directory_and_arguments(bench: Bench, tmp_path: Path) -> None:
    await bench.start(
        "sh", "-c", "pwd; echo $0 >&2; sleep 1000", "${SERVICE}-${OTHER}", workdir=str(tmp_path)
    )
    assert sorted(await bench.lines(2)) == ["stderr web-${OTHER}", f"stdout {tmp_path}"]


async def test_it_is_started_again_when_it_exits_and_loops_are_named(bench: Bench) -> None:
    await bench.start("sh", "-c", "exit 3")
    status = await bench.reached(lambda s: s.crash_looping and s.phase is Phase.BACKOFF)
    assert status.restarts >= 2
    assert "exited with status 3" in status.detail
    assert {Phase.RUNNING, Phase.BACKOFF} <= set(bench.events.phases)


@pytest.mark.parametrize(
    ("policy", "command", "stays"),
    [("never", "exit 1", True), ("on-failure", "exit 0", True), ("on-failure", "exit 1", False)],
)
async def test_the_restart_policy(bench: Bench, policy: Any, command: str, stays: bool) -> None:
    restart = Restart(policy, delay=0.01, max_delay=0.02)
    await bench.start("sh", "-c", command, restart=restart)
    if stays:
        status = await bench.reached(lambda s: s.phase is Phase.STOPPED)
        assert status.restarts == 0
    else:
        await bench.reached(lambda s: s.restarts >= 2)


async def test_a_program_that_is_not_there_is_named_and_tried_again(bench: Bench) -> None:
    await bench.start("/no/such/program")
    status = await bench.reached(lambda s: s.restarts >= 2 and s.phase is Phase.BACKOFF)
    assert "cannot start '/no/such/program': No such file" in status.detail


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"command": FOREVER}, None),
        ({"command": FOREVER, "networks": ("host",), "labels": {"a": "b"}}, None),
        ({"command": FOREVER, "resources": Resources(reserve_memory="1G")}, None),
        ({"image": "nginx"}, "it has an image, no command"),
        ({"image": "nginx", "command": FOREVER}, "it has an image; driver='process' would run"),
        ({"image": "nginx", "command": FOREVER, "driver": "process"}, None),
        ({"command": FOREVER, "networks": ("backend",)}, "a process cannot be given its networks"),
        ({"command": FOREVER, "secrets": ("a",), "user": "b"}, "given its secrets, user"),
        ({"command": FOREVER, "volumes": (Tmpfs("/a"),)}, "given its volumes"),
        ({"command": FOREVER, "resources": Resources(limit_pids=9)}, "given its resource limits"),
        ({"command": FOREVER, "resources": Resources(limit_cpu=1)}, "given its resource limits"),
        ({"command": FOREVER, "security": Security(read_only_root=True)}, "given its security"),
        ({"command": FOREVER, "init": (InitJob("a", command=("b",)),)}, "given its init jobs"),
    ],
)
def test_what_only_a_container_has_is_refused(
    bench: Bench, settings: dict[str, Any], reason: str | None
) -> None:
    answer = bench.driver.accepts(Service("web", **settings))
    assert answer is None if reason is None else answer is not None and reason in answer


async def test_it_is_asked_to_stop_with_its_signal(bench: Bench) -> None:
    await bench.python(
        "import signal, sys, time\n"
        "def bye(*_): print('bye', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGUSR1, bye); print('ready', flush=True); time.sleep(1000)",
        stop_signal="SIGUSR1",
    )
    await bench.lines(1)
    pid = bench.status.pid
    assert pid is not None
    await bench.driver.stop("web.node-a")
    assert not alive(pid)
    assert "bye" in (bench.folder / "logs" / "web.node-a.log").read_text()
    assert bench.driver.status("web.node-a") is None
    assert bench.events.phases[-2:] == [Phase.STOPPING, Phase.STOPPED]


async def test_who_does_not_stop_is_killed_after_the_grace(bench: Bench) -> None:
    await bench.start(
        "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done", stop_grace=0.2
    )
    await bench.lines(1)
    pid = bench.status.pid
    assert pid is not None
    await bench.driver.stop("web.node-a")
    assert not alive(pid)


async def test_what_a_process_started_ends_with_it(bench: Bench) -> None:
    await bench.start("sh", "-c", "sleep 1000 & echo $!; wait")
    (line,) = await bench.lines(1)
    child = int(line.split()[1])
    assert alive(child)
    await bench.driver.stop("web.node-a")
    await until_so(lambda: not alive(child), 10, "the end of its child")


async def test_a_killed_process_is_started_again_on_the_same_port(bench: Bench) -> None:
    await bench.start(*FOREVER, ports=(Port("http"),))
    first = await bench.reached(lambda s: s.phase is Phase.RUNNING)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second = await bench.reached(lambda s: s.phase is Phase.RUNNING and s.pid != first.pid)
    assert second.ports == first.ports
    assert second.restarts == 1
    assert any("killed by SIGKILL" in status.detail for status in bench.events.statuses)


async def test_a_restart_does_not_wait_for_the_backoff(bench: Bench) -> None:
    await bench.start("sh", "-c", "exit 1", restart=Restart(delay=3000, max_delay=3000))
    await bench.reached(lambda s: s.phase is Phase.BACKOFF)
    await bench.driver.restart("web.node-a", "test")
    await bench.reached(lambda s: s.restarts == 1)


async def test_commands_beside_it(bench: Bench) -> None:
    await bench.start(*FOREVER, env={"WORD": "hello"})
    await bench.reached(lambda s: s.phase is Phase.RUNNING)
    run = bench.driver.execute
    assert await run("web.node-a", ["sh", "-c", "echo $WORD; exit 4"], 10) == (4, "hello")
    with pytest.raises(RuntimeError, match="cannot run '/no/such'"):
        await run("web.node-a", ["/no/such"], 10)
    with pytest.raises(TimeoutError):
        await run("web.node-a", ["sleep", "1000"], 0.2)
    with pytest.raises(RuntimeError, match="not run by this driver"):
        await run("other.node-a", ["true"], 1)


async def test_a_port_that_another_has_is_an_error_until_it_is_free(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        await bench.start(*FOREVER, ports=(Port("http", number),))
        status = await bench.reached(lambda s: s.phase is Phase.BACKOFF)
        assert str(number) in status.detail
    await bench.reached(lambda s: s.phase is Phase.RUNNING)


async def test_endless_output_takes_bounded_space(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "process", log_max_bytes=20_000, log_files=2)
    try:
        await bench.python(
            "import sys, time\nfor n in range(5000): print(n, 'x' * 20)\n"
            "print('y' * 100000)\nprint('end', flush=True); time.sleep(1000)"
        )
        async for line in bench.driver.logs("web.node-a", tail=1000, follow=True):
            assert len(line.text) <= 16_384
            if line.text == "end":
                break
        files = sorted((bench.folder / "logs").iterdir())
        assert [path.name for path in files] == ["web.node-a.log", "web.node-a.log.1"]
        assert sum(path.stat().st_size for path in files) < 2 * (20_000 + 16_500)
    finally:
        await bench.driver.close()


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        sys.stdout.close()
        sys.stderr.close()
        os.closerange(0, 10)
        with open("daemons", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists("daemons"):
    time.sleep(0.01)
"""


async def test_a_service_that_becomes_a_daemon_leaves_none_behind(bench: Bench) -> None:
    await bench.python(DAEMON)
    await bench.reached(lambda status: status.restarts >= 3)
    await bench.driver.stop("web.node-a")
    pids = (bench.folder / "run" / "web.node-a" / "daemons").read_text().split()
    assert pids
    assert not [pid for pid in pids if alive(int(pid))]


async def test_the_daemons_of_other_instances_live_on(bench: Bench) -> None:
    await bench.start(*FOREVER)
    await bench.reached(lambda status: status.pid is not None)
    service = Service("short", command=("true",), restart=Restart("never"))
    other = ProcessDriver(ProcessConfig(), bench.folder / "other", SystemClock(), LOG)
    for driver in (bench.driver, other):
        driver.attach(Anything())
        await driver.start(InstanceSpec("short.node-a", service, "node-a", "127.0.0.1"))
        await until_so(
            lambda driver=driver: _phase(driver, "short.node-a") is Phase.STOPPED, 20, "its end"
        )
    assert bench.status.phase is Phase.RUNNING
    assert alive(bench.status.pid or 0)
    await other.close()


class Anything:
    """Takes every report."""

    def status_changed(self, instance_id: str, status: RuntimeStatus) -> None: ...


def _phase(driver: ProcessDriver, instance_id: str) -> Phase | None:
    status = driver.status(instance_id)
    return status.phase if status is not None else None


async def test_a_missing_working_directory_is_named(bench: Bench, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    await bench.start("true", workdir=str(missing))
    status = await bench.reached(lambda status: status.phase is Phase.BACKOFF)
    assert f"no folder {missing}" in status.detail


async def test_what_cannot_be_started_is_told_and_tried_again(bench: Bench) -> None:
    # Text that the definition lets pass, but the file system's encoding does not.
    await bench.start("true", env={"A": "x" * 200_000})
    status = await bench.reached(lambda status: status.restarts >= 2)
    assert "Argument list too long" in status.detail


async def test_a_driver_that_failed_to_prepare_tries_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "process")
    bench.folder.mkdir()
    blocker = bench.folder / "mark"
    blocker.mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
        await bench.start(*FOREVER)
    blocker.rmdir()
    blocker = bench.folder / "run"
    blocker.touch()
    with pytest.raises(OSError):  # noqa: PT011
        await bench.start(*FOREVER)
    blocker.unlink()
    await bench.start(*FOREVER)
    await bench.reached(lambda status: status.phase is Phase.RUNNING)
    await bench.driver.close()


async def test_a_log_that_cannot_be_written_does_not_hold_up_its_service(bench: Bench) -> None:
    await bench.python(
        "import os, sys, time\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "for n in range(3): sys.stdout.write('x' * 9 + chr(10)); sys.stdout.flush()\n"
        "sys.stdout.write(('x' * 99 + chr(10)) * 300000)\n"
        "sys.stdout.flush()\nopen('done', 'w').close(); time.sleep(1000)"
    )
    await bench.reached(lambda status: status.phase is Phase.RUNNING)
    # The next file cannot be made: a file stands where its folder was.
    logs = bench.folder / "logs"
    for file in logs.iterdir():
        file.unlink()
    logs.rmdir()
    logs.touch()
    folder = bench.folder / "run" / "web.node-a"
    (folder / "go").touch()
    await until_so((folder / "done").exists, 20, "the service to write all it has")


# Left behind in a session of its own, with the outputs of the service.
LEAVES_ONE_BEHIND = "setsid sleep 1000 & "


async def test_an_end_is_noticed_although_a_daemon_holds_the_outputs(bench: Bench) -> None:
    await bench.start("sh", "-c", LEAVES_ONE_BEHIND + "sleep 0.2; exit 3")
    status = await bench.reached(lambda status: status.restarts >= 2)
    assert "status 3" in status.detail or status.phase is Phase.RUNNING


async def test_a_stop_is_not_held_up_by_who_holds_the_outputs(bench: Bench) -> None:
    await bench.start(
        "sh", "-c", LEAVES_ONE_BEHIND + "trap '' TERM; while :; do sleep 1; done", stop_grace=0.1
    )
    await bench.reached(lambda status: status.phase is Phase.RUNNING)
    await until_so(lambda: len(bench.processes()) >= 2, 20, "the daemon")
    async with asyncio.timeout(20):
        await bench.driver.stop("web.node-a")
    assert not bench.processes()


async def test_a_check_that_leaves_one_behind_ends_all_the_same(bench: Bench) -> None:
    await bench.start(*FOREVER)
    await bench.reached(lambda status: status.phase is Phase.RUNNING)
    async with asyncio.timeout(20):
        script = LEAVES_ONE_BEHIND + "echo said; exit 4"
        assert await bench.driver.execute("web.node-a", ("sh", "-c", script), 10) == (4, "said")
        script = LEAVES_ONE_BEHIND + "sleep 1000"
        with pytest.raises(TimeoutError):
            await bench.driver.execute("web.node-a", ("sh", "-c", script), 0.3)
