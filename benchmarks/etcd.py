"""etcd, the peer of what agrees: three members at its defaults, and a client over gRPC.

Members encrypt what they say to each other and prove who they are, as ours always do and as
etcd's own documentation advises. Clients do neither, here as there.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.certificates import Files, certify
from benchmarks.members import HOST, Member, tried
from benchmarks.result import MissingPeerError
from constellation_core.testing.waiting import until

if TYPE_CHECKING:
    import aetcd

_RETRY = 0.1
_LONGEST = 600.0
_KEEPALIVES = 3
"""In a ttl, as in etcd's own client."""


def find_etcd() -> str:
    """Path of the program.

    Raises:
        MissingPeerError: when it, or the client, is not installed.
    """
    try:
        import aetcd  # noqa: F401
    except ImportError as error:
        raise MissingPeerError("aetcd is not installed: pip install aetcd") from error
    found = shutil.which("etcd")
    if found is None:
        raise MissingPeerError("etcd is not installed; on Debian: apt-get install etcd-server")
    return found


class EtcdMembers:
    """Members of one cluster, with TLS between them."""

    def __init__(self) -> None:
        self._program = find_etcd()
        self._cluster = ""
        self._files: Files | None = None

    def prepare(self, members: Sequence[Member]) -> None:
        """As :meth:`Kind.prepare`."""
        self._cluster = ",".join(f"{each.name}={_peer_url(each)}" for each in members)
        self._files = certify(members[0].folder.parent, HOST)

    def command(self, member: Member) -> list[str | Path]:
        """As :meth:`Kind.command`."""
        if self._files is None:
            raise RuntimeError("the members are not prepared")
        peer, client = _peer_url(member), f"http://{HOST}:{member.client_port}"
        return [
            self._program,
            f"--name={member.name}",
            f"--data-dir={member.folder / 'data'}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--initial-cluster={self._cluster}",
            f"--peer-trusted-ca-file={self._files.authority}",
            f"--peer-cert-file={self._files.certificate}",
            f"--peer-key-file={self._files.key}",
            "--peer-client-cert-auth",
            "--logger=zap",
        ]

    async def connect(self, members: Sequence[Member], name: str | None = None) -> EtcdClient:
        """As :meth:`Kind.connect`."""
        import aetcd

        ports = [each.client_port for each in members if name in (None, each.name)]
        # gRPC takes several addresses, in this form, and goes to the next when one fails.
        first = "".join(f"{HOST}:{port}," for port in ports[:-1])
        return EtcdClient(aetcd.Client(f"ipv4:{first}{HOST}", ports[-1]))

    def log_bytes(self, member: Member) -> int:
        """As :meth:`Kind.log_bytes`: files are made larger in advance, and zeros follow the log."""
        files = (member.folder / "data" / "member" / "wal").glob("*.wal")
        return sum(len(each.read_bytes().rstrip(b"\0")) for each in files)


def _peer_url(member: Member) -> str:
    return f"https://{HOST}:{member.peer_port}"


class EtcdClient:
    """A connection over gRPC."""

    def __init__(self, client: aetcd.Client) -> None:
        self._client = client

    async def write(self, key: str, value: bytes) -> None:
        """As :meth:`Client.write`."""
        await self._client.put(key.encode(), value)

    async def attempt(self) -> None:
        """As :meth:`Client.attempt`."""
        await self._client.put(b"probe", b"")

    async def status(self) -> tuple[str | None, int]:
        """As :meth:`Client.status`."""
        status = await self._client.status()
        return status.leader.name if status.leader else None, status.raft_index

    def lease(self, name: str, ttl: int) -> AbstractAsyncContextManager[object]:
        """As :meth:`Client.lease`: the lock of etcd's own ``concurrency`` package.

        Who wants it writes a key of its own that lives as long as its lease, and has it when no
        older key is left.
        """
        return self._locked(name, ttl)

    @asynccontextmanager
    async def _locked(self, name: str, ttl: int) -> AsyncIterator[None]:
        prefix = f"{name}/".encode()
        lease = await self._client.lease(ttl)
        keeping = asyncio.create_task(self._keep(lease, ttl / _KEEPALIVES))
        try:
            await self._client.put(prefix + f"{lease.id:x}".encode(), b"", lease=lease)
            first = partial(self._first, prefix, lease.id)
            await until(lambda: tried(first, 2.0 * ttl), _LONGEST, name, interval=_RETRY)
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await self._client.revoke_lease(lease.id)

    async def _first(self, prefix: bytes, lease: int) -> bool:
        """Wait until the key of this lease is the first, or the connection fails."""
        mine = prefix + f"{lease:x}".encode()
        while True:
            found = await self._client.get_prefix(prefix, sort_order="ascend", sort_target="create")
            keys = [each.key for each in found]
            before = keys.index(mine) - 1
            if before < 0:
                return True
            after = found[before].mod_revision + 1
            await self._client.watch_once(keys[before], start_revision=after)

    async def _keep(self, lease: Any, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            # The next one comes in time, as with etcd's own client.
            with contextlib.suppress(Exception):
                await lease.refresh()

    async def close(self) -> None:
        """As :meth:`Client.close`."""
        await self._client.close()
