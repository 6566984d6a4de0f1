"""Serf beside ours: three clusters of real processes at the same time, under the same conditions.

One is of Serf agents, with its profile for local networks; one of our nodes with the same
timings; one of our nodes with our own. Each node of ours is a process of its own, encrypts, and
carries the catalog with one instance. BENCHMARK_NODES is the size of each cluster, 30 by default.

As root each cluster has a network namespace, whose loopback interface counts all bytes with all
headers. Elsewhere they are those that the nodes say they sent.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.our_nodes import OurNodes
from benchmarks.result import BenchmarkResult, Criterion, Tell
from benchmarks.serf import SerfNodes, find_serf, sent_per_second
from benchmarks.starvation import Starvation, find_starvation
from benchmarks.usage import usage
from benchmarks.watched import Nodes, Sight, WatchedCluster
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.namespaces import NetworkNamespace, why_no_namespaces
from constellation_core.testing.waiting import until

SUMMARY = "traffic, failure detection, CPU and memory of 30 gossip nodes, beside 30 Serf agents"

NODES = int(os.environ.get("BENCHMARK_NODES", "30"))
# Until the exchanges of whole views, which young nodes make more often, have their usual pace.
_SETTLE = 60.0
_IDLE = 40.0
_KILLS, _KILLS_AT_OUR_PACE = 12, 20
_STARVE, _AFTERWARDS = 30.0, 10.0
_DETECTION_AIM = 4.0
_TOLERANCE = 1.05
_HOST = "127.0.0.1"
_BUSY = "while True: pass"


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about eight minutes."""
    find_serf()
    return asyncio.run(_measure(tell))


@dataclass(slots=True)
class _Cluster:
    """One of the three, and what was measured of it."""

    watched: WatchedCluster
    kills: int
    serf: bool
    space: NetworkNamespace | None
    figures: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class _Hardship:
    """How some nodes are starved.

    Attributes:
        name: for the output.
        share: of the nodes that are starved; at least one.
        busy: another process has the same quota, and uses it up at the beginning of each second,
            so that the nodes stand still for the rest. Otherwise the nodes are alone with it.
        cores: what they have together per node; of one core, or without the other process of
            what an idle node needs.
    """

    name: str
    share: float
    busy: bool
    cores: float


_HARDSHIPS = (
    _Hardship("one_in_bursts", 0.0, True, 0.01),
    _Hardship("a_sixth_in_bursts", 1 / 6, True, 0.01),
    _Hardship("all_in_bursts", 1.0, True, 0.004),
    _Hardship("all_at_a_tenth", 1.0, False, 0.1),
)


async def _measure(tell: Tell) -> BenchmarkResult:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gossip-serf-")))
        missing = why_no_namespaces()
        tell(f"bytes are those that the nodes count: {missing}" if missing else "bytes on the wire")
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        kinds: dict[str, tuple[Nodes, int]] = {
            "serf": (SerfNodes(key), _KILLS),
            "lan": (OurNodes(key, lan=True), _KILLS),
            "default": (OurNodes(key, lan=False), _KILLS_AT_OUR_PACE),
        }
        ports = PortPicker(_HOST)
        clusters = {
            name: _make(stack, folder / name, nodes, kills, ports, namespaced=not missing)
            for name, (nodes, kills) in kinds.items()
        }
        tell(f"starting {len(clusters)} clusters of {NODES} nodes, one node after the other")
        await _for_all(clusters, _start)
        tell(f"letting them settle for {_SETTLE:g} s")
        await asyncio.sleep(_SETTLE)
        tell(f"measuring them idle for {_IDLE:g} s")
        await _for_all(clusters, _idle)
        tell(f"killing a node {_KILLS} times in each, {_KILLS_AT_OUR_PACE} at our own timings")
        await _for_all(clusters, _kills)
        starvation = find_starvation()
        for hardship in _HARDSHIPS:
            tell(f"{hardship.name.replace('_', ' ')}, for {_STARVE:g} s: {starvation.name}")
            await _for_all(clusters, lambda each, h=hardship: _starve(each, starvation, h))
        for each in clusters.values():
            each.figures["false_failures"] = len(each.watched.false_failures)
    return _result({name: each.figures for name, each in clusters.items()}, starvation.name)


async def _for_all(clusters: Mapping[str, _Cluster], measure: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for each in clusters.values():
            group.create_task(measure(each))


def _make(
    stack: AsyncExitStack,
    folder: Path,
    nodes: Nodes,
    kills: int,
    ports: PortPicker,
    *,
    namespaced: bool,
) -> _Cluster:
    folder.mkdir()
    addresses = {
        f"node-{number}": (f"{_HOST}:{ports.pick()}", f"{_HOST}:{ports.pick()}")
        for number in range(NODES)
    }
    if not namespaced:
        watched = WatchedCluster(nodes, addresses, folder)
        space = None
    else:
        space = stack.enter_context(NetworkNamespace())
        watched = WatchedCluster(nodes, addresses, folder, lambda _, argv: space.command(argv))
    stack.push_async_callback(watched.close)
    cluster = _Cluster(watched, kills, isinstance(nodes, SerfNodes), space)

    def note(name: str, sight: Sight, _when: float) -> None:
        if sight.kind == "sent":
            cluster.sent[name] = int(sight.member)

    watched.on_sight = note
    return cluster


async def _start(cluster: _Cluster) -> None:
    cluster.figures["full_view_s"] = round(await cluster.watched.start_all(), 2)


# --- idle -----------------------------------------------------------------------------------------


async def _idle(cluster: _Cluster) -> None:
    pids = cluster.watched.pids
    before = {name: usage(pid) for name, pid in pids.items()}
    sent, began = await _sent(cluster), time.monotonic()
    await asyncio.sleep(_IDLE)
    seconds = time.monotonic() - began
    after = {name: usage(pid) for name, pid in pids.items()}
    cluster.cpu = fmean(after[name].cpu - before[name].cpu for name in pids) / seconds
    if sent is None:
        logs = [cluster.watched.log_file(name) for name in pids]
        sending = [sent_per_second(*each) for each in zip(pids.values(), logs, strict=True)]
        rate = fmean(await asyncio.gather(*sending))
    else:
        rate = ((await _sent(cluster) or 0) - sent) / seconds / len(pids)
    cluster.figures |= {
        "bytes_per_s": round(rate, 1),
        "cpu_of_a_core": round(cluster.cpu, 5),
        "pss_mb": round(fmean(each.pss for each in after.values()), 1),
        "rss_mb": round(fmean(each.rss for each in after.values()), 1),
    }


async def _sent(cluster: _Cluster) -> int | None:
    """Bytes that all nodes have sent so far; ``None`` when only Serf's own telemetry tells."""
    if cluster.space is not None:
        return cluster.space.bytes_sent()
    if cluster.serf:
        return None
    cluster.sent.clear()
    for pid in cluster.watched.pids.values():
        os.kill(pid, signal.SIGUSR1)

    async def all_said() -> bool:
        return len(cluster.sent) == len(cluster.watched.pids)

    await until(all_said, 10, "all to say what they sent")
    return sum(cluster.sent.values())


# --- kills ----------------------------------------------------------------------------------------


async def _kills(cluster: _Cluster) -> None:
    watched, chance = cluster.watched, random.SystemRandom()
    first, last = [], []
    for number in range(cluster.kills):
        await asyncio.sleep(chance.random())
        # All but the one that the others join by, which the test of joining is not about.
        name = f"node-{1 + number % (NODES - 1)}"
        times = await watched.noticed(name, await watched.kill(name))
        first.append(times[0])
        last.append(times[-1])
        await watched.start(name)
        await watched.wait_until_whole()
    cluster.figures |= {
        "first_notices_s": round(median(first), 2),
        "all_notice_s": round(median(last), 2),
        "all_notice_mean_s": round(fmean(last), 2),
        "all_notice_worst_s": round(max(last), 2),
    }


# --- starvation -----------------------------------------------------------------------------------


async def _starve(cluster: _Cluster, starvation: Starvation, hardship: _Hardship) -> None:
    watched = cluster.watched
    before = len(watched.false_failures)
    pids = list(watched.pids.values())[-max(1, round(hardship.share * NODES)) :]
    async with AsyncExitStack() as stack:
        cores = hardship.cores * len(pids)
        if hardship.busy:
            busy = await start_child(
                [sys.executable, "-IS", "-c", _BUSY], log_file=watched.log_file("busy")
            )
            stack.push_async_callback(stop_child, busy, 1.0)
            starved = [*pids, busy.pid]
        else:
            starved, cores = pids, cores * cluster.cpu
        await starvation.starve(starved, cores, _STARVE)
    await asyncio.sleep(_AFTERWARDS)
    cluster.figures[f"false_{hardship.name}"] = len(watched.false_failures) - before
    await watched.wait_until_whole()


# --- the result -----------------------------------------------------------------------------------


def _result(figures: Mapping[str, Mapping[str, Any]], starved_by: str) -> BenchmarkResult:
    serf, lan, default = figures["serf"], figures["lan"], figures["default"]
    starved = [f"false_{each.name}" for each in _HARDSHIPS]
    return BenchmarkResult(
        "gossip-serf",
        ours={
            "nodes": NODES,
            "starved_by": starved_by,
            **lan,
            **{f"{name}_at_our_timings": value for name, value in default.items()},
        },
        peer=serf,
        ratio=round(lan["bytes_per_s"] / serf["bytes_per_s"], 3),
        criteria=(
            Criterion(
                "at Serf's timings no more bytes than Serf",
                lan["bytes_per_s"] <= serf["bytes_per_s"],
            ),
            Criterion(
                "at Serf's timings a kill -9 is noticed by all no later than in Serf (mean, 5 %)",
                lan["all_notice_mean_s"] <= _TOLERANCE * serf["all_notice_mean_s"],
            ),
            Criterion(
                f"at our timings all notice every kill -9 within {_DETECTION_AIM:g} s",
                default["all_notice_worst_s"] <= _DETECTION_AIM,
            ),
            Criterion(
                "no false failure under CPU starvation",
                not any(each[name] for name in starved for each in (lan, default)),
            ),
            Criterion(
                "no false failure at any time",
                not lan["false_failures"] and not default["false_failures"],
            ),
        ),
    )
