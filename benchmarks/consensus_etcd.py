"""Three voters of ours beside three etcd members: commits, elections, and what they cost.

Both are at their defaults, sync their logs to the same disk and encrypt what they say to each
other. The clients are Python's on both sides and do not encrypt: of ours the store over a TCP
connection, of etcd aetcd over gRPC, each in a process of its own that counts its CPU time. They
write to whoever leads, one connection for all. Loads are run in turns, one side at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from benchmarks.etcd import find_etcd
from benchmarks.result import BenchmarkResult, Criterion, Tell
from benchmarks.sites import SiteProcess, both, disk_sync_ms, run_sites
from constellation_core.consensus.engine import records
from constellation_core.consensus.engine.commands import apply_command
from constellation_core.consensus.leases import LeaseTimes
from constellation_core.consensus.state.operations import Renew, encode

SUMMARY = "commits, elections, CPU, memory and log of three voters, beside three etcd members"

_DAY = 86_400.0
_SETTLE = 10.0
_IDLE = 30.0
_LEASES = 10
_TTL = round(LeaseTimes().ttl)
_BEAT = LeaseTimes().interval(_TTL)
_BEATS = 6
_ROUNDS = 5
_CLIENTS = (1, 64)
_LOAD = 3.0
_KILLS = 20
_LOG_AIM = 1e6
_TOLERANCE = 1.05


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about seven minutes."""
    find_etcd()
    return asyncio.run(_measure(tell))


async def _measure(tell: Tell) -> BenchmarkResult:
    sync = disk_sync_ms()
    async with run_sites(tell) as sites:
        figures: dict[str, dict[str, Any]] = {kind: {} for kind in sites}
        tell(f"letting three voters and three etcd members settle, then {_IDLE:g} s idle")
        await asyncio.sleep(_SETTLE)
        for kind, idle in (await _idle(sites, _IDLE)).items():
            figures[kind] |= {f"idle_{name}": value for name, value in idle.items()}
        tell(f"holding {_LEASES} leases for {_BEATS * _BEAT:g} s")
        await both(sites, "hold", _LEASES, _TTL)
        for kind, held in (await _holding(sites)).items():
            figures[kind] |= {f"{name}_at_{_LEASES}_leases": each for name, each in held.items()}
        tell(f"writing for {_LOAD:g} s, {_ROUNDS} times in turns, with {_CLIENTS} clients")
        for clients in _CLIENTS:
            loads = await _load(sites, clients)
            for kind, load in loads.items():
                figures[kind] |= {f"{name}_{clients}": value for name, value in load.items()}
        tell(f"kill -9 of who leads, {_KILLS} times")
        elections = await asyncio.gather(*map(_elections, sites.values()))
        for kind, election in zip(sites, elections, strict=True):
            figures[kind] |= election
    return _result(figures, sync)


async def _idle(sites: Mapping[str, SiteProcess], seconds: float) -> dict[str, dict[str, float]]:
    found = await asyncio.gather(*(site.idle(seconds) for site in sites.values()))
    return dict(zip(sites, found, strict=True))


async def _holding(sites: Mapping[str, SiteProcess]) -> dict[str, dict[str, float]]:
    """What leases cost, from a moment between two beats on, for some beats."""
    await asyncio.sleep(_BEAT)
    before = await both(sites, "log_bytes")
    for _ in range(int(_BEAT) + 5):
        if (await both(sites, "log_bytes"))["ours"] != before["ours"]:
            break
        await asyncio.sleep(1.0)
    await asyncio.sleep(_BEAT / 3)
    before = await both(sites, "log_bytes")
    figures = await _idle(sites, _BEATS * _BEAT)
    after = await both(sites, "log_bytes")
    for kind, each in figures.items():
        grown = after[kind] - before[kind]
        each["log_bytes_a_day"] = grown * _DAY / (_BEATS * _BEAT)
    return figures


async def _load(sites: Mapping[str, SiteProcess], clients: int) -> dict[str, dict[str, float]]:
    """The median of each figure over the rounds."""
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in sites}
    for _ in range(_ROUNDS):
        for kind, site in sites.items():
            rounds[kind].append(await site.ask("load", clients, _LOAD))
    return {
        kind: {name: median(each[name] for each in found) for name in found[0]}
        for kind, found in rounds.items()
    }


async def _elections(site: SiteProcess) -> dict[str, Any]:
    times = sorted([await site.ask("election") for _ in range(_KILLS)])
    return {
        "election_mean_s": fmean(times),
        "election_p50_s": median(times),
        "election_p90_s": times[int(0.9 * len(times))],
        "election_worst_s": times[-1],
    }


def computed_log_bytes_a_day(leases: int) -> float:
    """Bytes that renewals write into a voter's log in a day, from the formats."""
    # After a year with an election a day: indexes and terms of this size.
    index, term, epochs = 3_000_000, 365, range(100_000, 100_000 + leases)
    entry = records.numbers(index, term) + apply_command(encode(Renew(tuple(epochs))))
    mark = records.mark(0, 0)
    size = len(records.encode(0, records.ENTRY, entry) + records.encode(0, records.MARK, mark))
    return size * _DAY / _BEAT


def _result(figures: Mapping[str, Mapping[str, Any]], sync: float) -> BenchmarkResult:
    ours, etcd = figures["ours"], figures["etcd"]
    log = f"log_bytes_a_day_at_{_LEASES}_leases"
    computed = computed_log_bytes_a_day(_LEASES)
    return BenchmarkResult(
        "consensus-etcd",
        ours={"disk_sync_ms": sync, "kills": _KILLS, **ours, f"computed_{log}": computed},
        peer=etcd,
        ratio=round(ours["commits_per_s_1"] / etcd["commits_per_s_1"], 3),
        criteria=(
            Criterion(
                "with one client no fewer commits/s than etcd (5 %)",
                _TOLERANCE * ours["commits_per_s_1"] >= etcd["commits_per_s_1"],
            ),
            Criterion(
                f"after kill -9 of the leader ({_KILLS} times) no later than etcd (mean, 5 %)",
                ours["election_mean_s"] <= _TOLERANCE * etcd["election_mean_s"],
            ),
            Criterion(
                f"less than 1 MB of log a day at {_LEASES} leases, measured and computed",
                max(ours[log], computed) < _LOG_AIM,
            ),
        ),
    )
