"""Agents as processes that agree: voters, clients, leases of plugins, and what is said of it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

PLUGIN = Path(__file__).resolve().parents[1] / "fixtures/working-plugins/constellation-plugin-owner"
NAMES = ["a", "b", "c", "d"]
TTL = 6.0
# What machines that do much else may take; nothing below measures time against it.
PATIENCE = 60.0


def fleet(folder: Path, names: list[str], **consensus: Any) -> LocalCluster:
    """Agents with the plugin, that settle within moments."""
    settings = {
        "consensus": {"settle": 1.0, "stable_after": 1.0, **consensus},
        "plugins": {"owner": {"ttl": TTL}},
    }
    return LocalCluster(folder, names, plugins=["owner"], settings=settings)


async def begun(cluster: LocalCluster, names: list[str]) -> None:
    """Wait until all of these can use consensus."""
    said: dict[str, Any] = {}

    async def all_can() -> bool:
        for name in names:
            said[name] = await cluster.get(name, "/api/v1/consensus")
        return all(each["available"] for each in said.values())

    await until(all_can, PATIENCE, "consensus", interval=0.2, explain=lambda: json.dumps(said))


async def holder(cluster: LocalCluster, names: list[str], *, but: str = "") -> tuple[str, int]:
    """Wait until one of these holds the lease; its name, and the epoch."""

    async def somebody() -> tuple[str, int] | None:
        for name in names:
            epoch = (await cluster.get(name, "/api/owner"))["holds"]
            if epoch is not None and name != but:
                return name, epoch
        return None

    return await until(somebody, PATIENCE, "a holder of the lease", interval=0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    owner_site: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalCluster]:
    """Three voters and a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(owner_site))
        async with fleet(tmp_path_factory.mktemp("four"), NAMES, voters=3) as running:
            await running.wait_until_whole(PATIENCE)
            await begun(running, NAMES)
            yield running


def client_of(document: dict[str, Any]) -> str:
    """The node that does not vote."""
    (name,) = set(NAMES) - {each["node"] for each in document["voters"]}
    return name


async def test_all_see_the_same_voters_and_leader(cluster: LocalCluster) -> None:
    async def alike() -> bool:
        said = [await cluster.get(name, "/api/v1/consensus") for name in NAMES]
        leaders = {each["leader"] for each in said}
        voters = [[row["node"] for row in each["voters"]] for each in said]
        return (
            len(leaders) == 1
            and None not in leaders
            and all(len(each) == 3 and each == voters[0] for each in voters)
            and len({each["cluster"] for each in said}) == 1
            and not any(each["problems"] for each in said)
        )

    await until(alike, PATIENCE, "agents that say the same", interval=0.2)


async def test_who_does_not_vote_does_not_import_the_engine(cluster: LocalCluster) -> None:
    document = await cluster.get("a", "/api/v1/consensus")
    client = client_of(document)
    for name in NAMES:
        assert (await cluster.get(name, "/api/owner"))["engine"] is (name != client)


async def test_what_one_stores_all_read(cluster: LocalCluster) -> None:
    client = client_of(await cluster.get("a", "/api/v1/consensus"))
    await cluster.post(client, "/api/owner/store/greeting?value=hello")
    for name in NAMES:
        assert await cluster.get(name, "/api/owner/store/greeting") == "hello"
    assert await cluster.get(client, "/api/owner/store/nothing") is None


async def test_one_holds_the_lease_and_all_know_it(cluster: LocalCluster, cli: Any) -> None:
    name, epoch = await holder(cluster, NAMES)
    held = [(await cluster.get(each, "/api/owner"))["holds"] for each in NAMES]
    assert sorted(held, key=str) == sorted([epoch, None, None, None], key=str)

    async def known() -> bool:
        for each in NAMES:
            rows = await cluster.get(each, "/api/v1/leases")
            events = (await cluster.get(each, "/api/owner"))["events"]
            if [(row["name"], row["node"], row["epoch"]) for row in rows] != [
                ("the-one", name, epoch)
            ] or ["acquired", "the-one", name, epoch] not in events:
                return False
        return True

    await until(known, PATIENCE, "all to know the holder", interval=0.2)
    command = type(cli)(cluster.nodes["a"].folder)
    assert name in command("leases").stdout
    (row,) = json.loads(command("leases", "--json").stdout)
    assert (row["name"], row["node"], row["epoch"], row["ttl"]) == ("the-one", name, epoch, TTL)
    status = command("status").stdout
    assert "3 of 3 voters" in status
    assert "1 leases" in status
    checks = {
        each["name"]: each for each in json.loads(command("verify", "--json").stdout)["checks"]
    }
    for check in ("consensus.quorum", "consensus.voters", "consensus.cluster"):
        assert checks[check]["status"] == "ok", checks[check]


async def test_an_agent_that_stops_gives_the_lease_to_the_next(cluster: LocalCluster) -> None:
    name, epoch = await holder(cluster, NAMES)
    others = [each for each in NAMES if each != name]
    await cluster.stop_node(name)
    _, later = await holder(cluster, others)
    assert later > epoch
    # It was released: the voters did not have to wait until it was over.
    for each in others:
        assert "was not renewed in time" not in cluster.nodes[each].log_file.read_text()
    await cluster.start_node(name)
    await cluster.wait_until_whole(PATIENCE)
    await begun(cluster, NAMES)


async def test_when_the_holder_dies_another_gets_the_lease(cluster: LocalCluster) -> None:
    name, epoch = await holder(cluster, NAMES)
    others = [each for each in NAMES if each != name]
    began = time.monotonic()
    await cluster.kill(name)
    _, later = await holder(cluster, others)
    assert later > epoch
    # Nobody may have had it while the dead one could have believed to hold it.
    assert time.monotonic() - began > TTL * 0.5
    await begun(cluster, others)
    await cluster.start_node(name)
    await cluster.wait_until_whole(PATIENCE)
    await begun(cluster, NAMES)


async def test_when_the_leader_dies_another_leads_and_all_hear_of_it(cluster: LocalCluster) -> None:
    leader = (await cluster.get("a", "/api/v1/consensus"))["leader"]
    others = [each for each in NAMES if each != leader]
    await cluster.kill(leader)

    async def heard() -> bool:
        for name in others:
            events = (await cluster.get(name, "/api/owner"))["events"]
            leaders = [event[1] for event in events if event[0] == "leader"]
            if not leaders or leaders[-1] in (None, leader):
                return False
        return True

    await until(heard, PATIENCE, "all to hear of another leader", interval=0.2)
    await begun(cluster, others)
    await cluster.post(others[0], "/api/owner/store/greeting?value=again")
    assert await cluster.get(others[1], "/api/owner/store/greeting") == "again"
    kinds = {each["kind"] for each in await cluster.get(others[0], "/api/v1/events")}
    assert {"leader-changed", "lease-acquired"} <= kinds
    await cluster.start_node(leader)
    await cluster.wait_until_whole(PATIENCE)


async def test_a_lone_agent_begins_at_once_and_keeps_what_it_stored(
    owner_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(owner_site))
    async with fleet(tmp_path, ["a"], voters=1, settle=600.0) as cluster:
        await cluster.wait_until_whole(PATIENCE)
        await begun(cluster, ["a"])
        await cluster.post("a", "/api/owner/store/greeting?value=hello")
        _, epoch = await holder(cluster, ["a"])
        await cluster.kill("a")
        await cluster.start_node("a")
        await cluster.wait_until_whole(PATIENCE)
        await begun(cluster, ["a"])
        assert await cluster.get("a", "/api/owner/store/greeting") == "hello"
        _, later = await holder(cluster, ["a"])
        assert later > epoch


async def test_a_lone_agent_that_waits_for_others_says_so(tmp_path: Path, cli: Any) -> None:
    async with LocalCluster(tmp_path, ["a"], plugins=()) as cluster:
        await cluster.wait_until_whole(PATIENCE)
        command = type(cli)(cluster.nodes["a"].folder)

        async def waits() -> bool:
            said = await cluster.get("a", "/api/v1/consensus")
            return any("1 of 3" in each for each in said["problems"])

        await until(waits, PATIENCE, "the agent to say what it waits for", interval=0.2)
        checks = {
            each["name"]: each for each in json.loads(command("verify", "--json").stdout)["checks"]
        }
        assert checks["consensus.quorum"]["status"] == "warn"
        assert "voters = 1" in checks["consensus.quorum"]["remedy"]
        assert (await cluster.get("a", "/api/v1/status"))["ready"]
        assert "may be old" in command("leases").stderr


async def test_a_port_in_use_costs_the_vote_and_not_the_agent(tmp_path: Path) -> None:
    cluster = LocalCluster(
        tmp_path, ["a"], plugins=(), settings={"consensus": {"voters": 1, "settle": 0.0}}
    )
    host, port = cluster.nodes["a"].consensus.split(":")
    with socket.create_server((host, int(port))):
        async with cluster:
            await cluster.wait_until_whole(PATIENCE)

            async def says_so() -> bool:
                said = await cluster.get("a", "/api/v1/consensus")
                return any(f"port {port}" in each for each in said["problems"])

            await until(says_so, PATIENCE, "the agent to say what is wrong", interval=0.2)
            status = await cluster.get("a", "/api/v1/status")
            assert status["ready"]
            assert not status["consensus"]["available"]
            assert not any(task["failures"] for task in status["tasks"])


async def test_without_a_key_there_is_no_consensus_and_everything_says_so(
    owner_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(owner_site))
    settings = {"gossip": {"encryption": False}}
    async with LocalCluster(tmp_path, ["a"], plugins=["owner"], settings=settings) as cluster:
        await cluster.wait_until_whole(PATIENCE)

        async def refused() -> bool:
            return "encryption" in (await cluster.get("a", "/api/owner"))["refused"]

        await until(refused, PATIENCE, "the plugin to be told", interval=0.2)
        command = type(cli)(cluster.nodes["a"].folder)
        assert "encryption" in " ".join(command("status").stdout.split())
        assert "encryption" in command("leases").stderr
        checks = {
            each["name"]: each for each in json.loads(command("verify", "--json").stdout)["checks"]
        }
        assert checks["consensus.quorum"]["status"] == "warn"
        assert "encryption = true" in checks["consensus.quorum"]["detail"]
        assert not (tmp_path / "a/data/consensus").exists()


async def test_init_for_a_witness_enables_nothing(cli: Any) -> None:
    done = cli("init", "witness", "--witness", "--join", "10.0.0.1:7946")
    assert "two protect nothing" in done.stdout
    assert "enabled = []" in (cli.folder / "witness/agent.toml").read_text()
    refused = cli("init", "other", "--witness", "--plugin", "process", expect=2)
    assert "no plugins" in refused.stderr
    cli("init", "lone", "--voters", "1")
    assert "\nvoters = 1\n" in (cli.folder / "lone/agent.toml").read_text()
