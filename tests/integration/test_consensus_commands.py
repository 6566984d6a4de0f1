"""``constellation consensus``: what a person sees and may do, with and without an agent."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from constellation_core.agent.data_dir import DataDir
from constellation_core.api.errors import RefusedError
from constellation_core.api.server import ApiConfig, ApiServer
from constellation_core.consensus.backups import Backup, decode_backup, encode_backup
from constellation_core.consensus.engine.inspection import inspect
from constellation_core.consensus.state import ReplicatedState
from constellation_core.consensus.state.operations import Acquire, Put
from constellation_core.testing.consensus.directories import (
    CLUSTER,
    VOTERS,
    requests,
    write_voter,
)

pytestmark = pytest.mark.integration

SECRET = b"hunter2"
LOG = requests(Put("a", SECRET), Acquire("dns", "n1", 45_000))
NONE = Path("/nonexistent")


class Host:
    """A host with settings, and the agent's folder."""

    def __init__(self, folder: Path, cli: Callable[..., Any]) -> None:
        self.config = folder / "agent.toml"
        self.data = folder / "data"
        self.consensus = self.data / "consensus"
        self.voter = self.consensus / "voter"
        self.cli = cli
        self.config.write_text(
            '[agent]\nname = "node-a"\ndata_dir = "data"\n[consensus]\nbind = "127.0.0.1:7011"\n'
        )

    def write(self) -> None:
        write_voter(self.voter, LOG, committed=4)

    def run(self, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self.cli(
            "consensus", *arguments, "--config", self.config, expect=expect
        )
        assert SECRET.decode() not in done.stdout + done.stderr
        return done

    def json(self, *arguments: str | Path, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def host(tmp_path: Path, cli: Callable[..., Any]) -> Host:
    return Host(tmp_path, cli)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_the_disk_tells_what_its_voter_knows(host: Host) -> None:
    host.write()
    text = host.run("status", "--offline").stdout
    for shown in (str(CLUSTER), VOTERS[0].id, "127.0.0.1:7001 (this one)", "up to index 5"):
        assert shown in text
    document = host.json("status", "--offline")
    assert (document["last_index"], document["commit_index"]) == (5, 4)
    assert document["problems"] == []
    damage(host.voter / "snapshot")
    text = host.run("status", "--offline", expect=1).stdout
    assert "checksum" in text
    assert host.json("status", "--offline", expect=1)["problems"]


def test_a_host_without_a_voter_says_so(host: Host) -> None:
    assert "does not vote" in host.run("status", "--offline").stdout
    assert host.json("status", "--offline")["voter"] is None
    assert "not a voter's" in host.run("recover", "--yes", expect=1).stderr


def test_without_an_agent_its_status_is_an_error_with_a_way_out(host: Host) -> None:
    assert "--offline" in host.run("status", expect=3).stderr


def test_a_recovery_is_asked_for_told_and_done(host: Host) -> None:
    host.write()
    refused = host.run("recover", expect=2)
    assert "--yes" in refused.stderr
    assert "Make this voter the only one" in refused.stderr
    wrong = host.run("recover", "--yes", "--address", "node-b:7947", expect=1)
    assert "'node-b:7947' is not IP:PORT" in wrong.stderr
    assert inspect(host.voter).voters == VOTERS
    done = host.run("recover", "--yes")
    for shown in ("all up to index 5", "after index 5", "127.0.0.1:7002", "next:"):
        assert shown in done.stdout
    (only,) = inspect(host.voter).voters
    assert only.address == VOTERS[0].address
    document = host.json("recover", "--yes", "--address", "[::1]:7000")
    assert document["voter"]["address"] == "[::1]:7000"
    assert document["former"] in done.stdout


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_a_person_answers_at_the_terminal(host: Host, tmp_path: Path, answer: str) -> None:
    host.write()
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [
                *(sys.executable, "-m", "constellation_core.cli"),
                *("consensus", "recover", "--config", str(host.config)),
            ],
            cwd=tmp_path,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == (0 if answer == "y" else 1), done
    assert (inspect(host.voter).voters == VOTERS) == (answer != "y")


def test_of_several_survivors_the_lesser_is_refused(host: Host, tmp_path: Path) -> None:
    host.write()
    other = tmp_path / "other.json"
    more = {"last_term": 2, "last_index": 3, "cluster": str(CLUSTER)}
    other.write_text(json.dumps(more))
    before = inspect(host.voter)
    assert "goes further" in host.run("recover", "--yes", "--compare", other, expect=1).stderr
    other.write_text("[]")
    assert "status --offline" in host.run("recover", "--yes", "--compare", other, expect=2).stderr
    assert inspect(host.voter) == before
    other.write_text(json.dumps(host.json("status", "--offline")))
    host.run("recover", "--yes", "--compare", other)


def test_damage_has_to_be_accepted(host: Host) -> None:
    host.write()
    damage(host.voter / "journal")
    assert "damaged" in host.run("recover", "--yes", expect=1).stderr
    host.run("recover", "--yes", "--despite-damage")
    assert inspect(host.voter).problems == ()


def test_a_running_agent_is_in_the_way(host: Host, tmp_path: Path) -> None:
    host.write()
    file = tmp_path / "b"
    file.write_bytes(encode_backup(Backup(str(CLUSTER), 1, 0.0, ReplicatedState().snapshot())))
    with DataDir(host.data).locked():
        for words in (("recover",), ("restore", file), ("backup", tmp_path / "c", "--offline")):
            assert "stop it" in host.run(*words, "--yes", expect=1).stderr
    assert inspect(host.voter).voters == VOTERS


def test_another_users_directory_is_left_to_that_user(host: Host) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a directory to another user")
    host.write()
    os.chown(host.data, 12_345, 12_345)
    assert "sudo -u" in host.run("recover", "--yes", expect=2).stderr


def test_a_backup_of_the_disk_is_restored_elsewhere(host: Host, tmp_path: Path) -> None:
    host.write()
    file = tmp_path / "backup"
    document = host.json("backup", file, "--offline")
    assert (document["keys"], document["leases"], document["index"]) == (1, 1, 5)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "--yes" in host.run("backup", file, "--offline", expect=2).stderr
    assert "keys: 1" in host.run("backup", file, "--offline", "--yes").stdout

    (tmp_path / "fresh").mkdir()
    fresh = Host(tmp_path / "fresh", host.cli)
    assert "--yes" in fresh.run("restore", file, expect=2).stderr
    assert not fresh.voter.exists()
    done = fresh.run("restore", file, "--yes")
    assert "next:" in done.stdout
    (only,) = inspect(fresh.voter).voters
    assert only.address == "127.0.0.1:7011"
    # Once more, over what is there.
    document = fresh.json("restore", file, "--yes", "--address", "127.0.0.1:7099")
    assert inspect(fresh.voter).voters[0].id == document["voter"]["id"]
    assert inspect(fresh.consensus / "voter.removed").voters == (only,)


def test_what_is_no_backup_is_refused(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    for content in (b"", b"what", encode_backup(Backup(str(CLUSTER), 1, 0.0, b"x"))):
        file.write_bytes(content)
        host.run("restore", file, "--yes", expect=1)
    host.run("restore", NONE, "--yes", expect=1)
    assert not host.voter.exists()


@pytest.mark.parametrize(
    ("tables", "address"),
    [
        ('[consensus]\nadvertise = "10.0.0.1:7001"', "10.0.0.1:7001"),
        ('[consensus]\nadvertise = "10.0.0.1:0"\nbind = "0.0.0.0:7002"', "10.0.0.1:7002"),
        ('[consensus]\nbind = "[::1]:7003"', "[::1]:7003"),
        ('[consensus]\nbind = "0.0.0.0:7004"\n[gossip]\nbind = "10.0.0.2:7946"', "10.0.0.2:7004"),
    ],
)
def test_the_settings_say_where_the_restored_voter_is_reached(
    host: Host, tmp_path: Path, tables: str, address: str
) -> None:
    file = tmp_path / "backup"
    file.write_bytes(encode_backup(Backup(str(CLUSTER), 1, 0.0, ReplicatedState().snapshot())))
    host.config.write_text(f'[agent]\ndata_dir = "data"\n{tables}\n')
    host.run("restore", file, "--yes")
    assert inspect(host.voter).voters[0].address == address


def test_an_address_that_others_cannot_use_is_asked_for(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_bytes(encode_backup(Backup(str(CLUSTER), 1, 0.0, ReplicatedState().snapshot())))
    host.config.write_text('[agent]\ndata_dir = "data"\n')
    assert "--address" in host.run("restore", file, "--yes", expect=2).stderr
    host.run("restore", file, "--yes", "--address", "node-a:7947", expect=1)
    host.run("restore", file, "--yes", "--address", "127.0.0.1:7947")


class Agent:
    """What an agent's API says about consensus."""

    journal: Any = None
    document: Mapping[str, Any] = {}
    backup: bytes | None = None

    def consensus(self) -> Mapping[str, Any]:
        return self.document

    async def consensus_backup(self) -> bytes:
        if self.backup is None:
            raise RefusedError("not-a-voter", "this agent does not vote", "ask node-b")
        return self.backup


@pytest.fixture
async def agent(host: Host) -> AsyncIterator[Agent]:
    host.data.mkdir()
    agent = Agent()
    config = ApiConfig("127.0.0.1", 0, host.data / "agent.sock")
    server = ApiServer(config, agent)  # type: ignore[arg-type]
    await server.start()
    yield agent
    await server.close()


RAFT = {
    "backend": "raft",
    "available": True,
    "leader": "node-a",
    "problems": ["[red]two voters[/red] protect nothing"],
    "cluster": str(CLUSTER),
    "part": "voter",
    "vote": True,
    "doing": "all is well",
    "address": VOTERS[0].address,
    "wanted": 3,
    "voters": [
        {
            "node": "node-a",
            "id": VOTERS[0].id,
            "address": VOTERS[0].address,
            "state": "alive",
            "leader": True,
            "match": None,
            "silent": None,
        },
        {
            "node": None,
            "id": VOTERS[1].id,
            "address": VOTERS[1].address,
            "state": "dead",
            "leader": False,
            "match": 1,
            "silent": 12.5,
        },
    ],
    "role": "leader",
    "term": 3,
    "commit_index": 41,
    "last_index": 41,
    "log_entries": 12,
    "log_bytes": 4_100,
}
OTHER = {"backend": "etcd", "available": False, "leader": None, "problems": []}
OFF = {"backend": None, "available": False, "leader": None, "problems": ["encryption is off"]}


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (
            RAFT,
            ["works, leader node-a", "[red]two", "2 of 3", "node-a (leader)", "?", "40 entries"],
        ),
        (OTHER, ["etcd", "does not work", "leader none"]),
        (OFF, ["consensus", "encryption is off"]),
    ],
)
async def test_the_agent_tells_who_votes(
    host: Host, agent: Agent, document: Mapping[str, Any], shown: list[str]
) -> None:
    agent.document = document
    text = (await asyncio.to_thread(host.run, "status")).stdout
    for each in shown:
        assert each in text
    assert await asyncio.to_thread(host.json, "status") == document


async def test_what_a_voter_lacks_is_not_told_before_it_answered(host: Host, agent: Agent) -> None:
    leader, other = RAFT["voters"]
    agent.document = {**RAFT, "voters": [leader, {**other, "match": 0}]}
    text = (await asyncio.to_thread(host.run, "status")).stdout
    assert "not known" in text
    assert "41 entries" not in text


async def test_a_backup_from_an_agent(host: Host, agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    refused = await asyncio.to_thread(host.run, "backup", file, expect=1)
    assert "ask node-b" in refused.stderr
    assert not file.exists()
    agent.backup = b"half of a"
    await asyncio.to_thread(host.run, "backup", file, expect=1)
    assert not file.exists()
    backup = Backup(str(CLUSTER), 7, 1_800_000_000.0, ReplicatedState().snapshot())
    agent.backup = encode_backup(backup)
    await asyncio.to_thread(host.run, "backup", file)
    assert decode_backup(file.read_bytes()) == backup
