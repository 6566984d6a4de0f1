"""The procedures of docs/operations.md with agents, which find together again by themselves."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until

pytestmark = pytest.mark.chaos

NAMES = ["a", "b", "c", "d"]
SETTINGS = {
    "consensus": {"settle": 0.5, "stable_after": 1.0, "catch_up": 20.0, "replace_after": 3.0}
}
DEADLINE = 90.0


class Fleet:
    """Agents, and the commands that an operator gives on their hosts."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster

    def voter(self, name: str) -> Path:
        """The directory of a voter's files."""
        return self.cluster.nodes[name].folder / "data" / "consensus" / "voter"

    async def command(self, name: str, *arguments: str | Path) -> Any:
        """``constellation consensus`` on one of the hosts; its JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "constellation_core.cli", "consensus", *map(str, arguments)),
            *("--json", "--config", str(self.cluster.nodes[name].config_file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    async def document(self, name: str) -> dict[str, Any] | None:
        """What an agent says of consensus."""
        try:
            document: dict[str, Any] = await self.cluster.get(name, "/api/v1/consensus")
        except OSError:
            return None
        return document

    async def settle(self, voters: set[str] | int, cluster: str | None = None) -> dict[str, Any]:
        """Wait until all running agents know the same voters, a leader, and nothing wrong."""
        seen: dict[str, Any] = {}

        async def settled() -> dict[str, Any] | None:
            for name in self.cluster.running:
                seen[name] = await self.document(name)
            documents = [seen[name] for name in self.cluster.running]
            nodes = [{each["node"] for each in d["voters"]} if d else set() for d in documents]
            right = [n == voters if isinstance(voters, set) else len(n) == voters for n in nodes]
            if not all(right) or any(nodes[0] != each for each in nodes):
                return None
            if len({(d["cluster"], d["leader"]) for d in documents}) != 1:
                return None
            if not all(d["available"] and not d["problems"] for d in documents):
                return None
            document: dict[str, Any] = documents[0]
            return document if cluster in (None, document["cluster"]) else None

        return await until(settled, DEADLINE, f"voters {voters}", explain=lambda: str(seen))


@pytest.fixture
async def fleet(tmp_path: Path) -> Any:
    async with LocalCluster(tmp_path, NAMES, plugins=(), settings=SETTINGS) as cluster:
        yield Fleet(cluster)


async def lose_most(fleet: Fleet) -> tuple[list[str], str, str]:
    """Kill all voters; the two that are lost with the leader among them, the survivor, the rest."""
    before = await fleet.settle(3)
    voters = sorted(each["node"] for each in before["voters"])
    survivor = next(name for name in voters if name != before["leader"])
    (rest,) = set(NAMES) - set(voters)
    for name in voters:
        await fleet.cluster.kill(name)
    return [name for name in voters if name != survivor], survivor, rest


@pytest.mark.timeout(400)
async def test_a_fleet_goes_on_with_one_survivor_and_grows_again(fleet: Fleet) -> None:
    lost, survivor, rest = await lose_most(fleet)
    old = (await fleet.command(survivor, "status", "--offline"))["cluster"]
    made = await fleet.command(survivor, "recover", "--yes")
    assert made["former"] == old
    await fleet.cluster.start_node(survivor)
    # A host that was thought to be lost comes back, with its data.
    await fleet.cluster.start_node(lost[0])

    async def told() -> bool:
        document = await fleet.document(lost[0])
        return bool(document and any("data from before" in each for each in document["problems"]))

    await until(told, DEADLINE, "its problem", explain=lambda: fleet.cluster.log_end(lost[0]))
    document = await fleet.document(survivor)
    assert document is not None
    assert document["cluster"] == made["cluster"]
    assert lost[0] not in {each["node"] for each in document["voters"]}
    # It says what to do, and that helps. The agent that never voted was not touched.
    await fleet.cluster.stop_node(lost[0])
    fleet.voter(lost[0]).rename(fleet.voter(lost[0]).with_name("voter.old"))
    await fleet.cluster.start_node(lost[0])
    await fleet.settle({survivor, lost[0], rest}, made["cluster"])


@pytest.mark.timeout(400)
async def test_a_fleet_begins_anew_from_a_backup(fleet: Fleet, tmp_path: Path) -> None:
    before = await fleet.settle(3)
    file = tmp_path / "backup"
    taken = await fleet.command(before["leader"], "backup", file)
    assert taken["cluster"] == before["cluster"]
    (rest,) = set(NAMES) - {each["node"] for each in before["voters"]}
    with pytest.raises(AssertionError, match="does not vote"):
        await fleet.command(rest, "backup", tmp_path / "other")

    for name in NAMES:
        await fleet.cluster.kill(name)
    # Nothing is left of the voters; the agent that never voted becomes the first one.
    for name in NAMES:
        if name != rest:
            fleet.voter(name).rename(fleet.voter(name).with_name("voter.old"))
    made = await fleet.command(rest, "restore", file, "--yes")
    assert made["former"] == before["cluster"]
    for name in NAMES:
        await fleet.cluster.start_node(name)
    await fleet.settle(3, made["cluster"])
