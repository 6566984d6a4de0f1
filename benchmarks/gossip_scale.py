"""Traffic of a fleet of 100 agents with 1000 services, each changing every ten minutes.

Ours is simulated under a virtual clock: the real protocol with encryption, and the real catalog.
Beside it as many Serf agents run on loopback, encrypted as well; each change is a user event there,
of as many bytes as ours takes in a broadcast. Counted is what each node sends: datagrams with 28
bytes of IP and UDP headers each, and the bytes of streams.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean, median

from benchmarks.result import BenchmarkResult, Criterion, MissingPeerError, Tell
from constellation_core.gossip.keyring import Keyring
from constellation_core.model.node import NodeState
from constellation_core.testing.child import start_child, stop_child
from constellation_core.testing.fleet import SimulatedFleet
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until

SUMMARY = "bytes per node with 100 agents and 1000 services that change, beside as many Serf agents"

NODES = 100
SERVICES = 10
"""Of each node."""
CHANGES_PER_SECOND = NODES * SERVICES / 600
VIRTUAL_SECONDS = 300
SAMPLES = 20
THOUSAND = 1_000
THOUSAND_CHANGES_PER_SECOND = 1.0
_BYTES_AIM, _PROMISE = 5_000, 15_000
_REAL_AIM = 60.0
_HEADERS = 28
_EVENT_BYTES = 110
"""Of a Serf event: what a broadcast of ours takes for one changed row."""
_SERF_SECONDS = 45.0
_SERF_INTERVAL = 10.0
_HOST = "127.0.0.1"
_SENT = re.compile(
    r"^\[([^]]+)\]\[C\] '[^']*memberlist\.(udp|tcp)\.sent': Count: (\d+) .*Sum: ([0-9.]+)",
    re.MULTILINE,
)


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about four minutes."""
    if shutil.which("serf") is None:
        raise MissingPeerError("serf is not installed; on Debian: apt-get install serf")
    ours = _fleet(tell) | _thousand(tell)
    peer = asyncio.run(_serf(tell))
    return BenchmarkResult(
        "gossip-scale",
        ours=ours,
        peer=peer,
        ratio=round(ours["bytes_per_s"] / peer["bytes_per_s"], 3),
        criteria=(
            Criterion(
                f"no node sends {_BYTES_AIM} bytes/s, a third of the {_PROMISE} promised",
                ours["bytes_per_s_worst_node"] < _BYTES_AIM,
            ),
            Criterion(
                f"{THOUSAND} nodes: a minute in less than a minute",
                ours["thousand_nodes_real_s_per_minute"] < _REAL_AIM,
            ),
        ),
    )


# --- ours -------------------------------------------------------------------------------------


def _fleet(tell: Tell) -> dict[str, float]:
    tell(f"simulating {NODES} agents with {NODES * SERVICES} services for {VIRTUAL_SECONDS} s")
    keyring = Keyring([secrets.token_bytes(32)])
    fleet = SimulatedFleet(1, NODES, services=SERVICES, keyring=keyring)
    fleet.network.run_for(20)
    rng = Random(2)
    before = _sent(fleet)
    _change(fleet, rng, CHANGES_PER_SECOND, VIRTUAL_SECONDS)
    fleet.network.run_for(VIRTUAL_SECONDS)
    after = _sent(fleet)
    rates = [(after[name] - before[name]) / VIRTUAL_SECONDS for name in fleet.names]
    tell("measuring how soon all know of a change, and of a killed node")
    known = [_seconds_until_known(fleet, rng, number) for number in range(SAMPLES)]
    noticed = [_seconds_until_noticed(fleet, f"node-{number}") for number in range(SAMPLES // 4)]
    return {
        "nodes": NODES,
        "services": NODES * SERVICES,
        "changes_per_s": round(CHANGES_PER_SECOND, 2),
        "bytes_per_s": round(fmean(rates), 1),
        "bytes_per_s_worst_node": round(max(rates), 1),
        "change_known_to_all_s": round(median(known), 2),
        "change_known_to_all_s_worst": round(max(known), 2),
        "kill_noticed_by_all_s": round(median(noticed), 2),
        "kill_noticed_by_all_s_worst": round(max(noticed), 2),
    }


def _thousand(tell: Tell) -> dict[str, float]:
    tell(f"simulating {THOUSAND} nodes with {THOUSAND * SERVICES} services for a minute")
    fleet = SimulatedFleet(1, THOUSAND, services=SERVICES)
    # The garbage collector would look through ten million references that stay.
    gc.collect()
    gc.freeze()
    try:
        _change(fleet, Random(2), THOUSAND_CHANGES_PER_SECOND, 60)
        began = time.perf_counter()
        fleet.network.run_for(60)
        seconds = time.perf_counter() - began
    finally:
        gc.unfreeze()
    rate = fmean(_sent(fleet).values()) / 60
    return {
        "thousand_nodes_real_s_per_minute": round(seconds, 1),
        "thousand_nodes_changes_per_s": THOUSAND_CHANGES_PER_SECOND,
        "thousand_nodes_bytes_per_s": round(rate, 1),
    }


def _change(fleet: SimulatedFleet, rng: Random, per_second: float, seconds: float) -> None:
    """Change rows at even times, each time another one."""
    rows = [(name, f"s{number}") for name in fleet.names for number in range(SERVICES)]
    rng.shuffle(rows)
    for number in range(int(per_second * seconds)):
        node, service = rows[number % len(rows)]
        when = fleet.network.now + number / per_second
        fleet.network.at(when, partial(fleet.put, node, service, restarts=number + 1))


def _sent(fleet: SimulatedFleet) -> dict[str, int]:
    """Bytes that each node sent so far."""
    sent = {}
    for node in fleet.network.running():
        stats = node.protocol.stats
        sent[node.name] = stats.bytes_out + _HEADERS * stats.datagrams_out + stats.stream_bytes_out
    return sent


def _seconds_until_known(fleet: SimulatedFleet, rng: Random, number: int) -> float:
    name, restarts = rng.choice(fleet.names), 1_000_000 + number
    fleet.put(name, "s1", restarts=restarts)

    def known() -> bool:
        found = (fleet.catalogs[each].instance(f"s1.{name}") for each in fleet.names)
        return all(each is not None and each.restarts == restarts for each in found)

    return fleet.network.run_until(known, 60, step=0.05)


def _seconds_until_noticed(fleet: SimulatedFleet, name: str) -> float:
    fleet.node(name).kill()
    others = fleet.network.running()
    return fleet.network.run_until(
        lambda: all(node.state_of(name) is NodeState.DEAD for node in others), 60, step=0.05
    )


# --- Serf -------------------------------------------------------------------------------------


async def _serf(tell: Tell) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="constellation-scale-"))
        )
        tell(f"starting {NODES} Serf agents")
        pids, rpcs = await stack.enter_async_context(_serf_cluster(folder))
        # What the start left to do, and an interval of the telemetry that has none of it.
        await asyncio.sleep(2 * _SERF_INTERVAL)
        tell(f"sending {CHANGES_PER_SECOND:.2f} events/s to them for {_SERF_SECONDS:g} s")
        sent = await _send_events(list(rpcs.values()))
        for pid in pids.values():
            os.kill(pid, signal.SIGUSR1)
        rates = [await _rate(folder / f"{name}.log") for name in pids]
    return {
        "nodes": NODES,
        "changes_per_s": round(sent / _SERF_SECONDS, 2),
        "bytes_per_s": round(fmean(rates), 1),
        "bytes_per_s_worst_node": round(max(rates), 1),
    }


async def _send_events(rpcs: Sequence[str]) -> int:
    rng = Random(3)
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while loop.time() < began + _SERF_SECONDS:
        await asyncio.sleep(max(0.0, began + sent / CHANGES_PER_SECOND - loop.time()))
        payload = f"{sent:06d}".ljust(_EVENT_BYTES, "x")
        rpc = f"-rpc-addr={rng.choice(rpcs)}"
        await _serf_command("event", "-coalesce=false", rpc, "change", payload)
        sent += 1
    return sent


async def _rate(log_file: Path) -> float:
    """Bytes per second that an agent says it sent, in the last three whole intervals.

    On SIGUSR1 it writes the counters of the last minute, in intervals of 10 seconds, to its log.
    """

    async def written() -> Mapping[str, float]:
        sums = _sums(log_file)
        return sums if len(sums) > 3 else {}

    sums = await until(written, 20.0, "Serf's telemetry")
    # The last interval may not be over.
    whole = sorted(sums)[:-1][-3:]
    return fmean(sums[begin] for begin in whole) / _SERF_INTERVAL


def _sums(log_file: Path) -> dict[str, float]:
    """Bytes sent, with headers, by the beginning of the interval."""
    sums: dict[str, float] = {}
    for begin, kind, count, total in _SENT.findall(log_file.read_text(errors="replace")):
        headers = _HEADERS * int(count) if kind == "udp" else 0
        sums[begin] = sums.get(begin, 0.0) + float(total) + headers
    return sums


@asynccontextmanager
async def _serf_cluster(folder: Path) -> AsyncIterator[tuple[dict[str, int], dict[str, str]]]:
    """Serf agents that see each other; their process ids and RPC addresses by name."""
    ports = PortPicker(_HOST)
    names = [f"node-{number}" for number in range(NODES)]
    binds = {name: f"{_HOST}:{ports.pick()}" for name in names}
    rpcs = {name: f"{_HOST}:{ports.pick()}" for name in names}
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    async with AsyncExitStack() as stack:
        pids: dict[str, int] = {}
        for name in names:
            config = folder / f"{name}.json"
            config.touch(mode=0o600)
            config.write_text(
                json.dumps(
                    {
                        "node_name": name,
                        "bind": binds[name],
                        "rpc_addr": rpcs[name],
                        "encrypt_key": key,
                        "retry_join": [binds[names[0]]] if pids else [],
                        "retry_interval": "1s",
                    }
                )
            )
            process = await start_child(
                [shutil.which("serf") or "serf", "agent", f"-config-file={config}"],
                log_file=folder / f"{name}.log",
            )
            stack.push_async_callback(stop_child, process, 5.0)
            pids[name] = process.pid
        for name in (names[0], names[-1]):
            await until(partial(_sees_all, rpcs[name]), 90.0, "the Serf agents to see each other")
        yield pids, rpcs


async def _sees_all(rpc: str) -> bool:
    output = await _serf_command("members", "-format=json", "-status=alive", f"-rpc-addr={rpc}")
    return bool(output) and len(json.loads(output)["members"]) == NODES


async def _serf_command(*arguments: str) -> bytes:
    """The output of a command of Serf; nothing when it fails."""
    process = await asyncio.create_subprocess_exec(
        "serf",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return output if process.returncode == 0 else b""
