"""Holds a lease until it is killed: ``... lease_holder KIND NAME TTL PEER:CLIENT PEER:CLIENT ...``.

KIND is ``ours`` or ``etcd``, TTL in seconds; what follows are the ports of the members. It writes
a line as soon as it has the lease.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.consensus_site import make_kind
from benchmarks.members import NAMES, Member


async def _hold(kind: str, name: str, ttl: int, ports: list[str]) -> None:
    members = []
    for each, pair in zip(NAMES, ports, strict=True):
        peer, client = map(int, pair.split(":"))
        members.append(Member(each, peer, client, Path()))
    connection = await make_kind(kind).connect(members)
    async with connection.lease(name, ttl):
        print("held", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_hold(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
