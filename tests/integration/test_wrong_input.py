"""What an operator may get wrong: each time one clear message, no traceback, nothing harmed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
HELLO = """
import sys

from constellation_core import Port, Service

hello = Service(
    "hello", command=(sys.executable, "-m", "http.server", "${PORT}"), ports=(Port("http"),)
)
"""


@pytest.fixture
def settings(cli: Any) -> Callable[..., Path]:
    """Writes an agent.toml with free ports; ``edit`` may change the text."""
    ports = PortPicker(HOST)

    def write(edit: Callable[[str], str] = lambda text: text) -> Path:
        cli("init", "--name", "a", "--bind", f"{HOST}:{ports.pick()}", "--json")
        config = cli.folder / "agent.toml"
        text = config.read_text().replace(
            '# bind = "127.0.0.1:8081"', f'bind = "{HOST}:{ports.pick()}"'
        )
        config.write_text(edit(text))
        return Path(config)

    return write


def test_an_unknown_key_names_file_line_and_the_nearest(cli: Any, settings: Any) -> None:
    config = settings(
        lambda text: text.replace("\n[gossip]\n", "\n[gossip]\nprobe_intervall = 1\n")
    )
    line = config.read_text().splitlines().index("probe_intervall = 1") + 1
    for command in ("agent", "config check", "status"):
        done = cli(*command.split(), expect=2)
        assert f"agent.toml:{line}" in done.stderr
        assert "probe_intervall" in done.stderr
        assert "probe_interval" in done.stderr.replace("probe_intervall", "")


def test_a_wrong_value_says_what_was_expected(cli: Any, settings: Any) -> None:
    settings(lambda text: text.replace("\n[gossip]\n", '\n[gossip]\nprobe_interval = "soon"\n'))
    done = cli("agent", expect=2)
    assert "probe_interval" in done.stderr
    assert "number" in done.stderr


def test_broken_toml_names_the_line(cli: Any, settings: Any) -> None:
    settings(lambda text: text + "\n[api\n")
    done = cli("agent", expect=2)
    assert "agent.toml:" in done.stderr


def test_no_settings_at_all(cli: Any) -> None:
    done = cli("agent", expect=2)
    assert "constellation init" in done.stderr


@pytest.mark.parametrize("table", ["gossip", "api"])
def test_a_port_in_use_is_named(cli: Any, settings: Any, table: str) -> None:
    config = settings()
    position = 0 if table == "gossip" else 1
    binds = [line for line in config.read_text().splitlines() if line.startswith("bind")]
    port = int(binds[position].rpartition(":")[2].strip('"'))
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        done = cli("agent", expect=1)
    assert f"{HOST}:{port}" in done.stderr
    assert "another process" in done.stderr
    assert f"[{table}] bind" in done.stderr


def test_a_second_agent_on_the_same_data_dir_is_refused(cli: Any, settings: Any) -> None:
    config = settings()
    data = config.parent / "data"
    data.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(data / "agent.sock"))
        other.listen()
        done = cli("agent", expect=1)
    assert "another agent answers" in done.stderr


def test_a_world_readable_key_is_refused_with_the_chmod(cli: Any, settings: Any) -> None:
    config = settings()
    key = config.parent / "cluster.key"
    key.chmod(0o644)
    for command in ("agent", "config check"):
        done = cli(*command.split(), expect=None)
        assert done.returncode in (1, 2)
        assert "chmod 600" in done.stderr + done.stdout
        assert "cluster.key" in done.stderr + done.stdout


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 44, b"x" * 100_000])
def test_a_key_that_is_none_is_refused(cli: Any, settings: Any, content: bytes) -> None:
    key = settings().parent / "cluster.key"
    key.write_bytes(content)
    done = cli("agent", expect=None)
    assert done.returncode in (1, 2)
    assert "cluster.key" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_key_is_named(cli: Any, settings: Any) -> None:
    key = settings().parent / "cluster.key"
    key.chmod(0o000)
    done = cli("agent", expect=None)
    assert done.returncode in (1, 2)
    assert "cluster.key" in done.stderr


def test_a_missing_key_is_named(cli: Any, settings: Any) -> None:
    (settings().parent / "cluster.key").unlink()
    done = cli("agent", expect=None)
    assert done.returncode in (1, 2)
    assert "cluster.key" in done.stderr


SERVICES = {
    "raises": ("import os\n\n1 / 0\n", "services.py:3", "ZeroDivisionError"),
    "exits": ("import sys\nsys.exit(3)\n", "services.py:2", "SystemExit"),
    "syntax": ("x = = 1\n", "services.py:1", "syntax"),
    "no command": (
        'from constellation_core import Service\nweb = Service("web")\n',
        "services.py:2",
        "command",
    ),
    "same name": (
        "from constellation_core import Service\n"
        'one = Service("web", command=("true",))\n'
        'two = Service("web", command=("false",))\n',
        "web",
        "two",
    ),
    "unknown field": (
        'from constellation_core import Service\nweb = Service("web", comand=("true",))\n',
        "services.py:2",
        "comand",
    ),
}


@pytest.mark.parametrize(("text", "place", "word"), SERVICES.values(), ids=SERVICES.keys())
async def test_a_wrong_services_file_is_reported_and_the_agent_runs(
    tmp_path: Path, text: str, place: str, word: str
) -> None:
    async with LocalCluster(tmp_path, ["a"], services=text) as cluster:

        async def complaint() -> str:
            try:
                status = await cluster.get("a", "/api/v1/status")
            except OSError:
                return ""
            services = status["services_file"]
            return f"{services['error'] or ''} {services['refused'] or ''}".replace(
                "{}", ""
            ).strip()

        found = await until(complaint, 20.0, "the agent to complain")
        assert place in found
        assert word in found
        logged = cluster.nodes["a"].log_file.read_text()
        assert word in logged
        assert "Traceback" not in logged
        checks = await cluster.get("a", "/api/v1/services")
        assert isinstance(checks, list)


async def test_a_node_with_another_key_stays_out_and_says_so(tmp_path: Path, cli: Any) -> None:
    async with LocalCluster(tmp_path, ["a", "b", "c"]) as cluster:
        await cluster.wait_until_whole()
        await cluster.stop_node("c")
        key = cluster.nodes["c"].folder / "cluster.key"
        other = tmp_path / "other"
        other.mkdir()
        stranger = type(cli)(other)
        stranger("init", "--json")
        key.write_bytes((other / "cluster.key").read_bytes())
        await cluster.start_node("c")

        async def noticed() -> bool:
            return "another cluster key" in cluster.nodes["c"].log_file.read_text()

        await until(noticed, 20.0, "node c to notice that its key is another one")
        members = await cluster.get("c", "/api/v1/members")
        assert [each["name"] for each in members if each["state"] == "alive"] == ["c"]
        seen = {each["name"]: each["state"] for each in await cluster.get("a", "/api/v1/members")}
        assert seen.get("c", "left") != "alive"
        command = type(cli)(cluster.nodes["c"].folder)
        rows = json.loads(command("verify", "--json", expect=1).stdout)["checks"]
        checks = {each["name"]: each for each in rows}
        assert checks["gossip.key"]["status"] == "fail"
        assert "key" in checks["gossip.key"]["remedy"]
        # The secret itself is nowhere.
        secret = key.read_text().strip()
        assert secret not in cluster.nodes["c"].log_file.read_text()
        assert secret not in json.dumps(rows)


async def test_a_node_with_the_name_of_an_elder_stays_silent_and_says_so(
    tmp_path: Path, cli: Any
) -> None:
    async with LocalCluster(tmp_path, ["a", "b", "c"], services=HELLO) as cluster:
        await cluster.wait_until_whole()
        await cluster.stop_node("c")
        config = cluster.nodes["c"].config_file
        config.write_text(config.read_text().replace('name = "c"', 'name = "b"'))
        await cluster.start_node("c")

        async def noticed() -> bool:
            return "is called b too" in cluster.nodes["c"].log_file.read_text()

        await until(noticed, 20.0, "node c to notice that its name is another's")
        command = type(cli)(cluster.nodes["c"].folder)
        shown = command("status").stdout
        assert "was there first" in " ".join(shown.split())
        rows = json.loads(command("verify", "--json", expect=1).stdout)["checks"]
        checks = {each["name"]: each for each in rows}
        assert checks["gossip.name"]["status"] == "fail"
        assert "[agent] name" in checks["gossip.name"]["remedy"]
        # The elder was not disturbed, and its instance is where it was.
        for name in ("a", "b"):
            events = [
                each
                for each in await cluster.get(name, "/api/v1/events?follow=false")
                if each["kind"] in ("node-failed", "node-suspect") and each["subject"] == "b"
            ]
            assert not events
        gossip = (await cluster.get("a", "/api/v1/status"))["gossip"]
        assert gossip["last_conflict"]["claimed_from"] == cluster.nodes["c"].gossip
        (service,) = await cluster.get("a", "/api/v1/services")
        assert {each["node"]: each["health"] for each in service["instances"]} == {
            "a": "healthy",
            "b": "healthy",
        }


async def test_garbage_on_all_ports_changes_nothing(tmp_path: Path, cli: Any) -> None:
    async with LocalCluster(tmp_path, ["a", "b"], services=HELLO) as cluster:
        await cluster.wait_until_whole()
        host, _, port = cluster.nodes["a"].gossip.rpartition(":")
        address = (host, int(port))
        before = _resident(cluster.pid("a"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.9", 0))
            for size in (0, 1, 5, 20, 100, 1400, 9000, 65_507):
                for fill in (b"\x00", b"\xff", b"\x0c", os.urandom(1)):
                    udp.sendto(fill * size, address)
        for path in (address, _api(cluster)):
            for _ in range(20):
                with socket.create_connection(path, timeout=5) as tcp:
                    tcp.settimeout(5)
                    try:
                        tcp.sendall(b"\x0a\xff\xff\xff\xff" + os.urandom(200_000))
                    except OSError:
                        continue
        await cluster.wait_until_whole()
        rows = json.loads(
            type(cli)(cluster.nodes["a"].folder)("verify", "--json", expect=None).stdout
        )["checks"]
        (key,) = [each for each in rows if each["name"] == "gossip.key"]
        # A stranger's garbage is to be looked at, but no node has a wrong key.
        assert key["status"] == "warn"
        assert "127.0.0.9" in key["detail"]
        assert _resident(cluster.pid("a")) - before < 32 * 1024 * 1024
        assert "Traceback" not in cluster.nodes["a"].log_file.read_text()


def _api(cluster: LocalCluster) -> tuple[str, int]:
    host, _, port = cluster.nodes["a"].api.removeprefix("http://").rpartition(":")
    return host, int(port)


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
