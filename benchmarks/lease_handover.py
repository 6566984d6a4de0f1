"""How long a lease has no holder: after it was released, and after its holder was killed.

Three voters of ours beside three etcd members, both at their defaults; of etcd it is the lock of
its own ``concurrency`` package, on a lease of the same ttl that is kept alive as often as etcd's
client does. Holders are processes that are killed with kill -9 at any moment between two
renewals; who waits is in another process. No lease can pass on before its ttl is over, counted
from the last renewal: that is what it is for.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any

from benchmarks.etcd import find_etcd
from benchmarks.result import BenchmarkResult, Criterion, Tell
from benchmarks.sites import both, run_sites
from constellation_core.consensus.leases import LeaseTimes

SUMMARY = "seconds until a lease has its next holder, after a release and a crash, beside etcd"

_TTL = round(LeaseTimes().ttl)
_SHORT_TTL = 10
_RELEASES = 50
_HOLDERS = 10
_RELEASE_AIM, _CRASH_AIM = 0.2, 3.0


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about four minutes."""
    find_etcd()
    return asyncio.run(_measure(tell))


async def _measure(tell: Tell) -> BenchmarkResult:
    async with run_sites(tell) as sites:
        figures: dict[str, dict[str, Any]] = {kind: {} for kind in sites}

        async def measure(name: str, what: str, *arguments: Any) -> None:
            tell(what)
            for kind, times in (await both(sites, *arguments)).items():
                figures[kind] |= {f"{name}_p50_s": median(times), f"{name}_worst_s": max(times)}

        many = f"releasing a lease {_RELEASES} times"
        await measure("release", many, "releases", _RELEASES, _TTL)
        for ttl in (_TTL, _SHORT_TTL):
            name, many = f"crash_ttl_{ttl}", f"kill -9 of {_HOLDERS} holders, ttl {ttl} s"
            await measure(name, many, "crashes", _HOLDERS, ttl, False)
            name, many = f"{name}_with_leader", f"{many}, and of the leader"
            await measure(name, many, "crashes", _HOLDERS, ttl, True)
    return _result(figures["ours"], figures["etcd"])


def _result(ours: dict[str, Any], etcd: dict[str, Any]) -> BenchmarkResult:
    late = max(
        ours[f"crash_ttl_{ttl}{leader}_worst_s"] - ttl
        for ttl in (_TTL, _SHORT_TTL)
        for leader in ("", "_with_leader")
    )
    return BenchmarkResult(
        "lease-handover",
        ours={"ttl_s": _TTL, **ours},
        peer={"ttl_s": _TTL, **etcd},
        ratio=round(ours["release_p50_s"] / etcd["release_p50_s"], 3),
        criteria=(
            Criterion(
                f"after every release within {_RELEASE_AIM:g} s",
                ours["release_worst_s"] <= _RELEASE_AIM,
            ),
            Criterion(
                f"after every crash within the ttl and {_CRASH_AIM:g} s, the leader's included",
                late <= _CRASH_AIM,
            ),
        ),
    )
