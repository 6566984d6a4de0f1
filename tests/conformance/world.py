"""A cluster to come, of nodes of ours and of one other implementation."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from constellation_core.gossip import GossipConfig, encode_tags
from constellation_core.gossip.serf import SERF_VERSIONS
from constellation_core.testing.free_ports import PortPicker
from tests.conformance.ours import NODE_PROGRAM, Ours
from tests.conformance.peers import QUICK_GO, GoPeer, Peer, Place, SerfPeer
from tests.conformance.programs import Program, require_go, require_serf, to_text

KEY = bytes(range(32))
NEW_KEY = bytes(range(32, 64))
"""Keys of these tests, and of nothing else."""
QUICK = {"probe_interval": 0.3, "probe_timeout": 0.15, "rejoin_interval": 1.0}
"""Settings of ours that notice a dead node in about a second and a half."""


@dataclass(frozen=True)
class Terms:
    """Who the others are, and how the cluster speaks.

    Attributes:
        kind: ``go`` or ``serf``.
        encrypted: whether it has a key.
        host: the loopback address of all.
    """

    kind: str
    encrypted: bool
    host: str

    def __str__(self) -> str:
        family = "ipv6" if ":" in self.host else "ipv4"
        return f"{self.kind}-{'encrypted' if self.encrypted else 'plain'}-{family}"

    def require(self) -> None:
        """Skip the test where this cannot be had."""
        if self.kind == "go":
            require_go()
        else:
            require_serf()
        if self.host == "::1" and not has_ipv6():
            pytest.skip("this machine has no IPv6 on loopback")


KINDS = ("go", "serf")
ALL_TERMS = [
    Terms(kind, encrypted, host)
    for kind in KINDS
    for encrypted in (False, True)
    for host in ("127.0.0.1", "::1")
]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class World:
    """Starts nodes, all by the same terms, and ends them with the test."""

    def __init__(
        self, terms: Terms, folder: Path, ports: PortPicker, stack: AsyncExitStack
    ) -> None:
        self.terms = terms
        self.is_serf = terms.kind == "serf"
        self.key = KEY if terms.encrypted else None
        self._folder = folder
        self._ports = ports
        self._stack = stack

    async def peer(
        self,
        name: str,
        *,
        quick: bool = False,
        kind: str = "",
        bind: tuple[str, int] | None = None,
        flags: tuple[str, ...] = (),
        **settings: object,
    ) -> Peer:
        """A real node: ``flags`` are the Go program's, ``settings`` Serf's."""
        host, port = bind or (self.terms.host, self._ports.pick())
        place = Place(host, port, self.key, self._folder)
        peer: Peer
        if (kind or self.terms.kind) == "go":
            peer = await GoPeer.start(name, place, *(QUICK_GO if quick else ()), *flags)
        else:
            profile = {"profile": "local"} if quick else {}
            peer = await SerfPeer.start(name, place, self._ports.pick(), {**profile, **settings})
        self._stack.push_async_callback(peer.kill)
        return peer

    async def go(
        self, name: str, *flags: str, quick: bool = False, bind: tuple[str, int] | None = None
    ) -> GoPeer:
        """A node of the Go program."""
        peer = await self.peer(name, kind="go", flags=flags, quick=quick, bind=bind)
        assert isinstance(peer, GoPeer)
        return peer

    async def serf(self, name: str, *, quick: bool = False, **settings: object) -> SerfPeer:
        """A Serf agent."""
        peer = await self.peer(name, kind="serf", quick=quick, **settings)
        assert isinstance(peer, SerfPeer)
        return peer

    async def ours(
        self, name: str, *, quick: bool = False, bind: tuple[str, int] | None = None, **more: Any
    ) -> Ours:
        """A node of ours, in this process; ``more`` are settings of the protocol."""
        config = GossipConfig(**self._settings(name, quick=quick, **more))
        meta = encode_tags({"role": f"role of {name}"})
        where = bind or (self.terms.host, 0)
        ours = Ours(config, where, self.key, meta, serf=self.is_serf)
        self._stack.push_async_callback(ours.gossip.close)
        await ours.start()
        return ours

    async def our_program(self, name: str, peer: Peer, *, quick: bool = False) -> Program:
        """A node of ours in a process of its own, joined to ``peer``."""
        key_file = self._folder / f"{name}.key"
        if self.key is not None:
            key_file.write_text(to_text(self.key))
        settings = {
            "host": self.terms.host,
            "seed": seed_of(peer),
            "serf": self.is_serf,
            "key_file": str(key_file) if self.key is not None else "",
            "gossip": self._settings(name, quick=quick),
        }
        program = await Program.start(
            [sys.executable, NODE_PROGRAM, json.dumps(settings)], self._folder / f"{name}.log"
        )
        self._stack.push_async_callback(program.kill)
        (ready,) = program.said("ready")
        assert ready["joined"], ready["reason"]
        return program

    def _settings(self, name: str, *, quick: bool, **more: Any) -> dict[str, Any]:
        versions = SERF_VERSIONS if self.is_serf else (0, 0, 0)
        return {"name": name, "delegate_versions": versions, **(QUICK if quick else {}), **more}


def seed_of(peer: Peer) -> str:
    host, port = peer.place.host, peer.place.port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def world_of(terms: Terms, folder: Path, ports: PortPicker) -> AsyncIterator[World]:
    """A world that ends with the block."""
    async with AsyncExitStack() as stack:
        yield World(terms, folder, ports, stack)


Scenario = Callable[[World], Awaitable[None]]
