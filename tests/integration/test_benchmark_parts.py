"""What the benchmarks are made of: reading, starving, drawing; members, clients and holders."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.consensus_etcd import computed_log_bytes_a_day
from benchmarks.consensus_site import Site
from benchmarks.membership_plot import Phase, draw
from benchmarks.our_nodes import OurNodes
from benchmarks.result import MissingPeerError
from benchmarks.serf import SerfNodes
from benchmarks.starvation import CgroupV1, CgroupV2, Pauses, Starvation, find_starvation
from benchmarks.usage import usage
from benchmarks.watched import Sight, WatchedCluster
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.free_ports import PortPicker

pytestmark = pytest.mark.integration

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@asynccontextmanager
async def busy(tmp_path: Path) -> AsyncIterator[int]:
    process = await start_child(
        [sys.executable, "-IS", "-c", "while True: pass"], log_file=tmp_path / "busy.log"
    )
    try:
        yield process.pid
    finally:
        await stop_child(process, 5)


@pytest.mark.parametrize("kind", [CgroupV1, CgroupV2, Pauses])
async def test_a_starved_process_gets_its_share_and_all_of_the_cpu_afterwards(
    kind: type[CgroupV1 | Pauses], tmp_path: Path
) -> None:
    way: Starvation = kind()
    if isinstance(way, CgroupV1):
        try:
            with way.group():
                pass
        except OSError as error:
            pytest.skip(f"{way.name}: {error.strerror}")
    async with busy(tmp_path) as pid:
        before = usage(pid).cpu
        await way.starve([pid], 0.1, 3.0)
        # Three periods; a scheduler counts in ticks, and others need the machine too.
        assert usage(pid).cpu - before < 1.0
        before, began = usage(pid).cpu, time.monotonic()
        while usage(pid).cpu - before < 0.5:
            assert time.monotonic() - began < 30
            await asyncio.sleep(0.05)


def test_there_is_always_a_way_to_starve() -> None:
    assert find_starvation().name


def test_serfs_log_is_read() -> None:
    try:
        nodes = SerfNodes(KEY)
    except MissingPeerError as error:
        pytest.skip(str(error))
    stamp = "    2026/01/01 10:00:00 [INFO] serf: EventMember"
    assert nodes.read(f"{stamp}Join: node-1 127.0.0.1") == Sight("alive", "node-1")
    assert nodes.read(f"{stamp}Failed: node-1 127.0.0.1") == Sight("failed", "node-1")
    assert nodes.read(f"{stamp}Leave: node-1 127.0.0.1") == Sight("left", "node-1")
    assert nodes.read(f"{stamp}Reap: node-1") == Sight("forgotten", "node-1")
    assert nodes.read("==> Serf agent running!") == Sight("ready", "")
    assert nodes.read("    2026/01/01 10:00:00 [DEBUG] memberlist: Stream connection") is None


@pytest.mark.parametrize("kind", ["ours", "serf"])
async def test_a_watched_cluster_notices_kills_and_counts_false_failures(
    kind: str, tmp_path: Path
) -> None:
    try:
        nodes = OurNodes(KEY, lan=False) if kind == "ours" else SerfNodes(KEY)
    except MissingPeerError as error:
        pytest.skip(str(error))
    ports = PortPicker()
    addresses = {
        f"node-{number}": (f"127.0.0.1:{ports.pick()}", f"127.0.0.1:{ports.pick()}")
        for number in range(3)
    }
    cluster = WatchedCluster(nodes, addresses, tmp_path)
    try:
        assert await cluster.start_all() >= 0
        times = await cluster.noticed("node-2", await cluster.kill("node-2"), limit=60)
        assert len(times) == 2
        assert 0.5 < times[0] <= times[1]
        await cluster.start("node-2")
        await cluster.wait_until_whole()
        assert cluster.false_failures == []
        observer = cluster.running["node-0"]
        cluster._note("node-0", observer, Sight("failed", "node-1"), 0.0)
        assert cluster.false_failures == [("node-0", "node-1")]
    finally:
        await cluster.close()
    assert cluster.running == {}


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    seen = {"a": [(0.0, 2), (3.0, 1), (6.0, 2)], "b": [(0.0, 2)]}
    draw(file, {"Ours": seen, "Peer": seen}, [Phase("split", 1, 5, 7), Phase("more", 7, 9, 10)], 2)
    header = file.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1500, 700)


@pytest.mark.parametrize("kind", ["ours", "etcd"])
async def test_members_commit_elect_and_hand_leases_over(kind: str, tmp_path: Path) -> None:
    try:
        site = Site(kind, tmp_path)
    except MissingPeerError as error:
        pytest.skip(str(error))
    try:
        await site.start()
        pids = await site.pids()
        assert len(pids) == 3
        before = await site.log_bytes()
        load = await site.load(2, 0.5)
        assert load["commits_per_s"] > 1
        assert 0 < load["p50_ms"] <= load["p99_ms"]
        assert await site.log_bytes() > before
        assert 0 < await site.election() < 60
        assert await site.pids() != pids
        assert all(0 < each < 10 for each in await site.releases(2, 10))
        assert all(1 < each < 30 for each in await site.crashes(2, 4, False))
        assert all(1 < each < 40 for each in await site.crashes(1, 4, True))
    finally:
        await site.close()
    for pid in (await site.pids()).values():
        with pytest.raises(FileNotFoundError):
            usage(pid)


def test_a_days_log_is_computed_from_the_formats() -> None:
    one, ten = computed_log_bytes_a_day(1), computed_log_bytes_a_day(10)
    # An entry every 15 seconds, of some tens of bytes.
    assert 5_760 * 20 < one < ten < 5_760 * 200
