"""Agents as processes that agree through a real etcd instead of voters of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until
from constellation_plugin_etcd.testing.members import Members

ETCD = shutil.which("etcd")
PATIENCE = 60.0

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
]


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    folder = tmp_path / "etcd"
    folder.mkdir()
    made = Members(ETCD or "etcd", folder)
    made.start_all()
    yield made
    made.kill_all()


async def test_agents_lease_and_store_in_etcd(
    tmp_path: Path,
    members: Members,
    owner_site: Path,
    cli: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(owner_site))
    plugins = {"owner": {"ttl": 6.0}, "etcd": {"endpoints": list(members.urls.values())}}
    (tmp_path / "agents").mkdir()
    async with LocalCluster(
        tmp_path / "agents", ["a", "b"], plugins=["owner", "etcd"], settings={"plugins": plugins}
    ) as cluster:
        await cluster.wait_until_whole(PATIENCE)

        async def holding() -> str | None:
            for name in ("a", "b"):
                if (await cluster.get(name, "/api/owner"))["holds"] is not None:
                    return name
            return None

        async def described() -> dict[str, Any] | None:
            document: dict[str, Any] = await cluster.get("b", "/api/v1/consensus")
            return document if document["available"] else None

        first = await until(holding, PATIENCE, "a holder of the lease")
        assert first is not None
        document = await until(described, PATIENCE, "consensus")
        assert document is not None
        assert document["backend"] == "etcd"
        assert document["leader"] in members.names
        await cluster.post("a", "/api/owner/store/greeting?value=hello")
        assert await cluster.get("b", "/api/owner/store/greeting") == "hello"

        async def known() -> bool:
            rows = await cluster.get("b", "/api/v1/leases")
            return [(row["name"], row["node"]) for row in rows] == [("the-one", first)]

        await until(known, PATIENCE, "the holder to be known")
        command = type(cli)(cluster.nodes["b"].folder)
        assert first in command("leases").stdout
        checks = json.loads(command("verify", "--json", expect=None).stdout)["checks"]
        (check,) = [each for each in checks if each["name"] == "etcd.cluster"]
        assert check["status"] in ("ok", "warn")
        # No voter of its own.
        assert not (cluster.nodes["b"].folder / "data" / "consensus" / "voter").exists()
        # It goes on without one member, and the lease passes on when its holder is gone.
        members.kill("m1")
        await cluster.post("b", "/api/owner/store/greeting?value=again")
        assert await cluster.get("a", "/api/owner/store/greeting") == "again"
        await cluster.kill(first)
        (other,) = {"a", "b"} - {first}

        async def passed_on() -> bool:
            return (await cluster.get(other, "/api/owner"))["holds"] is not None

        await until(passed_on, PATIENCE, "the lease to pass on")
