"""What an idle agent costs: one of three with a healthy service on each, beside three Serf agents.

Both clusters are on loopback, both encrypt their gossip, and they are measured at the same time.
CPU time and memory come from /proc, and count the agent itself without its services; bytes are
those that the agents say they sent, Serf in its telemetry.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import fmean

from benchmarks.result import BenchmarkResult, Criterion, Tell
from benchmarks.serf import find_serf, sent_per_second
from benchmarks.usage import Usage, usage
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until
from constellation_plugin_demo.fleet import services_file

SUMMARY = "CPU, memory and traffic of an idle agent among three, beside a Serf agent"

SECONDS = 30.0
_CHECK_INTERVAL = 5.0
_SETTLE = 10.0
_NAMES = ("node-a", "node-b", "node-c")
_CPU_AIM, _MEMORY_AIM = 0.01, 60.0
_HOST = "127.0.0.1"


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about a minute."""
    find_serf()
    return asyncio.run(_measure(tell))


async def _measure(tell: Tell) -> BenchmarkResult:
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="constellation-idle-"))
        )
        tell("starting three agents and three Serf agents")
        (folder / "agents").mkdir()
        cluster = await stack.enter_async_context(
            LocalCluster(
                folder / "agents",
                _NAMES,
                services=services_file(_CHECK_INTERVAL),
                plugins=("process", "monitor", "traefik"),
            )
        )
        (folder / "serf").mkdir()
        serfs = await stack.enter_async_context(_serf_cluster(folder / "serf"))
        await cluster.wait_until_whole()
        # What the start left to do: push/pulls, the first documents, imports on first use.
        await asyncio.sleep(_SETTLE)
        tell(f"measuring for {SECONDS:g} s")
        ours, peer = {name: cluster.pid(name) for name in _NAMES}, serfs
        before = {pid: usage(pid) for pid in (*ours.values(), *peer.values())}
        sent = await _bytes(cluster)
        await asyncio.sleep(SECONDS)
        after = {pid: usage(pid) for pid in before}
        sent_after = await _bytes(cluster)
        serf_bytes = [
            await sent_per_second(pid, folder / "serf" / f"{name}.log")
            for name, pid in serfs.items()
        ]
    our = _figures(before, after, ours)
    serf = _figures(before, after, peer)
    serf["bytes_out_per_s"] = round(fmean(serf_bytes), 1)
    our["bytes_out_per_s"] = round(
        fmean((sent_after[name] - sent[name]) / SECONDS for name in _NAMES), 1
    )
    return BenchmarkResult(
        "agent-idle",
        ours=our,
        peer=serf,
        ratio=round(our["cpu_of_a_core"] / max(serf["cpu_of_a_core"], 1e-6), 2),
        criteria=(
            Criterion("under 1 % of a core", our["cpu_of_a_core"] < _CPU_AIM),
            Criterion("under 60 MB (PSS)", our["pss_mb"] < _MEMORY_AIM),
        ),
    )


def _figures(
    before: Mapping[int, Usage], after: Mapping[int, Usage], pids: Mapping[str, int]
) -> dict[str, float]:
    """Of the costliest agent, so that no average hides it."""
    cpu = max((after[pid].cpu - before[pid].cpu) / SECONDS for pid in pids.values())
    return {
        "cpu_of_a_core": round(cpu, 5),
        "pss_mb": round(max(after[pid].pss for pid in pids.values()), 1),
        "rss_mb": round(max(after[pid].rss for pid in pids.values()), 1),
        "anonymous_mb": round(max(after[pid].anonymous for pid in pids.values()), 1),
    }


async def _bytes(cluster: LocalCluster) -> dict[str, int]:
    documents = {name: await cluster.get(name, "/api/v1/status") for name in _NAMES}
    return {name: int(each["gossip"]["bytes_out"]) for name, each in documents.items()}


# --- Serf -------------------------------------------------------------------------------------


@asynccontextmanager
async def _serf_cluster(folder: Path) -> AsyncIterator[dict[str, int]]:
    """Three Serf agents that see each other; their process ids by name."""
    ports = PortPicker(_HOST)
    binds = {name: f"{_HOST}:{ports.pick()}" for name in _NAMES}
    rpcs = {name: f"{_HOST}:{ports.pick()}" for name in _NAMES}
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    async with AsyncExitStack() as stack:
        pids: dict[str, int] = {}
        for name in _NAMES:
            config = folder / f"{name}.json"
            config.touch(mode=0o600)
            config.write_text(
                json.dumps(
                    {
                        "node_name": name,
                        "bind": binds[name],
                        "rpc_addr": rpcs[name],
                        "encrypt_key": key,
                        "start_join": [binds[each] for each in pids],
                    }
                )
            )
            process = await start_child(
                [find_serf(), "agent", f"-config-file={config}"],
                log_file=folder / f"{name}.log",
            )
            stack.push_async_callback(stop_child, process, 5.0)
            pids[name] = process.pid
            await until(partial(_serf_members, rpcs[name]), 20.0, f"Serf {name} to answer")
        await until(
            lambda: _serf_sees_all(rpcs["node-a"]), 20.0, "the Serf agents to see each other"
        )
        yield pids


async def _serf_sees_all(rpc: str) -> bool:
    return len([each for each in await _serf_members(rpc) if each == "alive"]) == len(_NAMES)


async def _serf_members(rpc: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        "serf",
        "members",
        "-format=json",
        f"-rpc-addr={rpc}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    if process.returncode:
        return []
    return [each["status"] for each in json.loads(output)["members"]]
