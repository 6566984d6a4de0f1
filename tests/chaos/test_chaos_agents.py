"""Agents on hosts of their own that hold a lease, and a network that is cut around the holder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces
from constellation_core.testing.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

NAMES = ("a", "b", "c")
PATIENCE = 60.0
TTL = 6.0


async def test_who_is_cut_off_lets_go_before_another_holds(
    owner_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)
    monkeypatch.setenv("PYTHONPATH", str(owner_site))
    with NamespaceNetwork(NAMES) as network:
        settings = {
            # Bound to all addresses: they have to find out where the others reach them.
            "gossip": {
                "bind": "0.0.0.0:7946",
                "join": [f"{network.address(name)}:7946" for name in NAMES],
            },
            "consensus": {"bind": "0.0.0.0:7947", "settle": 1.0},
            "plugins": {"owner": {"ttl": TTL}},
        }
        cluster = LocalCluster(tmp_path, NAMES, plugins=["owner"], settings=settings, hosts=network)
        async with cluster:
            holder = await begun(cluster, network)
            others = [name for name in NAMES if name != holder]
            network.split([holder], others)

            async def passed_on() -> str | None:
                for name in others:
                    if (await cluster.get(name, "/api/owner"))["holds"] is not None:
                        # Asked afterwards: who was cut off must have let go by then.
                        assert (await cluster.get(holder, "/api/owner"))["holds"] is None
                        return name
                return None

            await until(passed_on, PATIENCE, "the lease to pass on", interval=0.05)
            # It goes on, and says what it cannot do.
            alone = await cluster.get(holder, "/api/v1/consensus")
            assert not alone["available"]
            assert alone["problems"]
            assert (await cluster.get(holder, "/api/v1/status"))["ready"]
            network.heal()

            async def healed() -> bool:
                said = [await cluster.get(name, "/api/v1/consensus") for name in NAMES]
                leases = [await cluster.get(name, "/api/v1/leases") for name in NAMES]
                return (
                    all(each["available"] for each in said)
                    and len({each["leader"] for each in said}) == 1
                    and len({rows[0]["epoch"] if rows else 0 for rows in leases}) == 1
                )

            await until(healed, PATIENCE, "all to agree again", interval=0.2)


async def begun(cluster: LocalCluster, network: NamespaceNetwork) -> str:
    """Wait until there are three voters at the hosts' addresses; who holds the lease."""
    said: dict[str, Any] = {}

    async def holder() -> str | None:
        found = None
        for name in NAMES:
            try:
                said[name] = await cluster.get(name, "/api/v1/consensus")
                holds = (await cluster.get(name, "/api/owner"))["holds"]
            except OSError:
                return None
            if not said[name]["available"] or len(said[name]["voters"]) != len(NAMES):
                return None
            found = name if holds is not None else found
        return found

    found = await until(
        holder, PATIENCE, "a holder of the lease", interval=0.2, explain=lambda: json.dumps(said)
    )
    for name in NAMES:
        addresses = {each["node"]: each["address"] for each in said[name]["voters"]}
        assert addresses == {each: f"{network.address(each)}:7947" for each in NAMES}
    return found
