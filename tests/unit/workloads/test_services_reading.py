"""The services file in a process of its own: whatever it does, the agent stays as it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from constellation_core.workloads import ServicesError, read_services
from constellation_core.workloads.loader import load_services

EVERYTHING = """
from constellation_core import *

web = Service(
    "web",
    command=["python", "-m", "http.server", "${PORT}"],
    env={"TOKEN": "ä\\n'"},
    workdir="/tmp",
    ports=[Port("http"), Port("dns", 53, protocol="udp")],
    routes=[
        Route("a.{domain}", path="/x", tls=TLS(resolver="le"), sticky=Sticky(max_age=5)),
        Route(rule="Host(`b`)", priority=3, middlewares=["login"]),
        TCPRoute(["db"], port="http"),
    ],
    check=HTTPCheck("/health", interval=0.5, headers={"Host": "x"}, statuses=(200, 204)),
    restart=Restart("on-failure", delay=0.25),
    stop_signal="INT",
    stop_grace=0.5,
    weight=0,
    tags=["blue"],
)
others = [
    Service("exec", command=["x"], check=ExecCheck(["true"])),
    Service("tcp", command=["x"], ports=[Port("a")], check=TCPCheck()),
    Service("driver", command=["x"], check=DriverCheck(), driver="process"),
    Service(
        "container",
        image="r.example.com/a/b:1",
        entrypoint=["sh"],
        secrets=["token", Secret("key", path_env="KEY_FILE")],
        ports=[Port("http", 80, host=8080, publish="all")],
        networks=["publicnet", Network("mine", internal=True)],
        volumes=[Volume("data", "/data"), Bind("a", "/a"), Tmpfs("/tmp", size="64M")],
        placement=Placement(
            regions=["eu"], spread=["region", "node"], prefer=[Preference(tags=["ssd"])]
        ),
        resources=Resources(reserve_cpu=0.5, limit_memory="1G"),
        security=Security(read_only_root=True, capabilities=["cap_chown"], sysctls={"a.b": "1"}),
        update=UpdatePolicy(order="stop-first", on_failure="pause"),
        depends_on=["web", Dependency("tcp", until="started")],
        init=[InitJob("migrate", command=["x"], run="revision", env={"A": "1"})],
        log=LogOptions(max_size="1M"),
        labels={"a.b/c": "d"},
        when_isolated="stop",
    ),
]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "services.py"
    path.write_text(text)
    return path


async def test_services_come_back_as_the_file_has_them(tmp_path: Path) -> None:
    path = written(tmp_path, EVERYTHING)
    assert await read_services(path) == load_services(path)


async def test_the_agent_stays_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path.cwd()
    path = written(
        tmp_path,
        "import os, sys, threading, time\n"
        "from constellation_core import Service\n"
        "os.chdir('/')\nos.environ['LEFT_BEHIND'] = 'x'\nsys.path.append('left-behind')\n"
        "print('said by the file')\nos.system('echo said by its child')\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "web = Service('web', command=['x'])\n",
    )
    assert [service.name for service in await read_services(path)] == ["web"]
    assert Path.cwd() == folder
    assert "LEFT_BEHIND" not in os.environ
    assert "left-behind" not in sys.path
    said = capfd.readouterr()
    assert "said by the file\n" in said.err
    assert "said by its child\n" in said.err
    assert not said.out


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = 1\nwhile True:\n    pass\n", 3, "not done after 0.5 s"),
        ("import time\ntime.sleep(1000)\n", 2, "not done after 0.5 s"),
        ("import os\nos._exit(7)\n", 0, "exit status 7"),
        ("import os\nos._exit(0)\n", 0, "exit status 0"),
        ("import os\nos.kill(os.getpid(), 11)\n", 0, "SIGSEGV"),
        ("\nraise KeyboardInterrupt\n", 2, "it raised KeyboardInterrupt"),
        ("import asyncio\nraise asyncio.CancelledError\n", 2, "it raised CancelledError"),
        ("class E(Exception):\n    def __str__(self): return 1\nraise E\n", 3, "it raised E"),
        ("import sys\nsys.path.clear()\nsys.modules.clear()\n", 0, "ended the process"),
        ("import os\nos.closerange(0, 100)\nraise ValueError\n", 0, "ended the process"),
    ],
)
async def test_a_file_that_ends_or_hangs_is_an_error(
    tmp_path: Path, text: str, line: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ServicesError) as caught:
        await read_services(written(tmp_path, text), time_limit=0.5)
    assert caught.value.line in (line, line - 1)
    assert reason in caught.value.reason
    assert "Traceback" not in capfd.readouterr().err


async def test_a_pipe_that_nobody_writes_to_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "services.py"
    os.mkfifo(path)
    with pytest.raises(ServicesError, match="not done after"):
        await read_services(path, time_limit=0.2)


async def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ServicesError, match="no such file"):
        await read_services(tmp_path / "none.py")
    with pytest.raises(ServicesError, match="cannot be read"):
        await read_services(tmp_path)
