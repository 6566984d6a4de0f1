"""Five agents on hosts of their own, and a network between them that is cut in all kinds of ways.

In all of it, no agent declares another one dead that it could reach, be it through others; and
afterwards all views and all catalogs are the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces
from constellation_core.testing.waiting import until
from constellation_plugin_demo.fleet import services_file

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

NAMES = ("a", "b", "c", "d", "e")
HEALED = 60.0
"""Seconds for a cluster to be whole again: six attempts to find the lost, and what follows."""


@asynccontextmanager
async def fleet(
    tmp_path: Path, **gossip: float
) -> AsyncIterator[tuple[LocalCluster, NamespaceNetwork]]:
    """Agents with a service on each, in namespaces; whole."""
    missing = why_no_namespaces()
    if missing:
        pytest.skip(missing)
    with NamespaceNetwork(NAMES) as network:
        cluster = LocalCluster(
            tmp_path, NAMES, services=services_file(), settings={"gossip": gossip}, hosts=network
        )
        async with cluster:
            await cluster.wait_until_whole(60)
            yield cluster, network


async def seen(cluster: LocalCluster, name: str, state: str) -> set[str]:
    members = await cluster.get(name, "/api/v1/members")
    return {each["name"] for each in members if each["state"] == state}


async def healthy_on(cluster: LocalCluster, name: str) -> set[str]:
    instances = await cluster.get(name, "/api/v1/instances")
    return {each["node"] for each in instances if each["health"] == "healthy"}


async def path(cluster: LocalCluster, source: str, target: str) -> str:
    members = await cluster.get(source, "/api/v1/members")
    return str(next(each["path"] for each in members if each["name"] == target))


async def declared_dead(cluster: LocalCluster, name: str) -> set[str]:
    """Whom an agent has ever declared dead."""
    events = await cluster.get(name, "/api/v1/events")
    return {each["subject"] for each in events if each["kind"] == "node-failed"}


async def same_catalogs(cluster: LocalCluster) -> None:
    async def same() -> bool:
        documents: list[Any] = [
            [await cluster.get(name, f"/api/v1/{what}") for what in ("instances", "services")]
            for name in cluster.running
        ]
        return all(each == documents[0] for each in documents)

    await until(same, 30, "all catalogs to be the same", interval=0.2)


async def sides_settle(cluster: LocalCluster, *sides: Collection[str]) -> None:
    """Wait until each agent sees its own side alive and healthy, and all others dead."""

    async def settled() -> bool:
        for side in sides:
            for name in side:
                if await seen(cluster, name, "dead") != set(NAMES) - set(side):
                    return False
                if (
                    not await seen(cluster, name, "alive")
                    == set(side)
                    == await healthy_on(cluster, name)
                ):
                    return False
        return True

    await until(settled, 60, "each side to see itself", interval=0.2)


async def test_a_fleet_that_is_split_goes_on_in_both_parts_and_heals(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (cluster, network):
        many, few = {"a", "b", "c"}, {"d", "e"}
        network.split(many, few)
        await sides_settle(cluster, many, few)
        network.heal()
        await cluster.wait_until_whole(HEALED)
        await same_catalogs(cluster)
        for side, other in ((many, few), (few, many)):
            for name in side:
                assert await declared_dead(cluster, name) == other


async def test_who_is_cut_off_alone_says_so_and_comes_back(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (cluster, network):
        network.split({"a"}, set(NAMES) - {"a"})
        await sides_settle(cluster, {"a"}, set(NAMES) - {"a"})
        assert (await cluster.get("a", "/api/v1/status"))["isolated"] is True
        network.heal()
        await cluster.wait_until_whole(HEALED)
        await same_catalogs(cluster)
        assert (await cluster.get("a", "/api/v1/status"))["isolated"] is False


async def test_a_link_that_works_in_one_direction_kills_nobody_and_is_named(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as (cluster, network):
        network.drop("a", "b")

        async def named() -> bool:
            there, back = await path(cluster, "a", "b"), await path(cluster, "b", "a")
            return (there, back) == ("one-way", "relayed")

        await until(named, 60, "the path to be named", interval=0.2)
        # Suspicions are refuted through the others, and whoever is healthy is served.
        for name in NAMES:
            assert await healthy_on(cluster, name) == set(NAMES)
            assert not await declared_dead(cluster, name)
        network.heal()

        async def direct() -> bool:
            return await path(cluster, "a", "b") == await path(cluster, "b", "a") == "direct"

        await until(direct, 60, "the path to be direct again", interval=0.2)
        await cluster.wait_until_whole(HEALED)
        await same_catalogs(cluster)
        for name in NAMES:
            assert not await declared_dead(cluster, name)


async def test_a_firewall_that_drops_udp_kills_nobody_and_is_named(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (cluster, network):
        others = set(NAMES) - {"e"}
        for name in others:
            network.drop(name, "e", protocol="udp")
            network.drop("e", name, protocol="udp")

        async def named() -> bool:
            ways = [await path(cluster, name, "e") for name in others]
            return set(ways) == {"udp-blocked"}

        await until(named, 60, "the firewall to be named by all", interval=0.2)
        network.heal()
        await cluster.wait_until_whole(HEALED)
        await same_catalogs(cluster)
        for name in NAMES:
            assert not await declared_dead(cluster, name)


async def test_a_partition_that_outlasts_the_memory_of_the_dead_heals(tmp_path: Path) -> None:
    """As one of more than a day does with the usual settings."""
    short = {"forget_dead": 4.0, "push_pull_interval": 2.0, "rejoin_interval": 2.0}
    async with fleet(tmp_path, **short) as (cluster, network):
        many, few = {"a", "b", "c"}, {"d", "e"}
        network.split(many, few)

        async def forgotten() -> bool:
            known = {
                name: {each["name"] for each in await cluster.get(name, "/api/v1/members")}
                for name in NAMES
            }
            return all(known[name] == side for side in (many, few) for name in side)

        await until(forgotten, 60, "both sides to forget each other", interval=0.2)
        network.heal()
        await cluster.wait_until_whole(HEALED)
        await same_catalogs(cluster)
