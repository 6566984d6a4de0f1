"""What ``constellation verify`` looks at."""

from __future__ import annotations

from constellation_core import VerifyCheck, VerifyResult
from constellation_plugin_etcd.backend import EtcdBackend


def cluster_check(backend: EtcdBackend) -> VerifyCheck:
    """Whether etcd answers, and goes on when a member is lost."""

    async def run() -> VerifyResult:
        health = await backend.look()
        words = "; ".join(health.problems)
        if not health.available:
            return VerifyResult(
                "fail", words, "look at the etcd members: etcdctl endpoint status --cluster"
            )
        if health.problems:
            return VerifyResult("warn", words, "see README.md of constellation-plugin-etcd")
        return VerifyResult("ok", f"{health.members} members, {health.leader} leads")

    return VerifyCheck("etcd.cluster", run)
