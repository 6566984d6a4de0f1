"""Logs of other nodes' instances, between two nodes on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from constellation_core.agent.logs import SERVICE, FleetLogs
from constellation_core.api.errors import RefusedError
from constellation_core.gossip import Gossip, GossipConfig, Keyring, RemoteRejectionError, Stream
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.runtime import LogLine
from constellation_core.testing.catalog import FakeCatalog
from constellation_core.testing.waiting import until_so

pytestmark = pytest.mark.timeout(120)


@dataclass
class Local:
    """A node's own logs; every follower waits after the last line until it is closed."""

    instances: dict[str, list[LogLine]] = field(default_factory=dict)
    following: int = 0
    asked: list[tuple[str, int, bool]] = field(default_factory=list)

    def ids(self) -> Sequence[str]:
        return sorted(self.instances)

    def logs(self, instance_id: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        self.asked.append((instance_id, tail, follow))
        return self._read(self.instances[instance_id], tail, follow)

    async def _read(self, lines: list[LogLine], tail: int, follow: bool) -> AsyncIterator[LogLine]:
        self.following += 1
        try:
            for line in lines[-tail:] if tail else []:
                yield line
            if follow:
                await asyncio.Event().wait()
        finally:
            self.following -= 1


class Fleet:
    """Nodes a and b; b runs ``web.b``."""

    def __init__(self) -> None:
        self.catalog = FakeCatalog()
        self.catalog.put(
            *(
                Instance(f"web.{node}", "web", node, "127.0.0.1", {"http": 80}, Health.HEALTHY)
                for node in ("a", "b")
            )
        )
        self.locals = {name: Local() for name in ("a", "b")}
        ring = Keyring([b"k" * 32])
        self.gossips = {
            name: Gossip(GossipConfig(name), bind=("127.0.0.1", 0), keyring=ring)
            for name in ("a", "b")
        }
        self.logs = {
            name: FleetLogs(self.gossips[name], self.catalog, self.locals[name])
            for name in ("a", "b")
        }

    async def read(self, instance_id: str, tail: int = 100) -> list[LogLine]:
        async with self.logs["a"].open(instance_id, tail=tail, follow=False) as lines:
            return [line async for line in lines]


@asynccontextmanager
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    try:
        for name, gossip in fleet.gossips.items():
            await gossip.start()
            fleet.logs[name].serve()
        host, port = fleet.gossips["b"].local.address
        await fleet.gossips["a"].join([f"{host}:{port}"])
        yield fleet
    finally:
        for gossip in fleet.gossips.values():
            await gossip.close()


LINES = [
    LogLine(1.25, "stdout", "hello"),
    LogLine(2.0, "stderr", 'ä "quoted" \x1b[31m\x00 😀'),
    LogLine(3.0, "stdout", ""),
    LogLine(4.0, "stdout", "last"),
]


@pytest.mark.parametrize("node", ["a", "b"])
async def test_lines_come_as_they_were_written_from_wherever(node: str) -> None:
    async with fleet() as f:
        f.locals[node].instances[f"web.{node}"] = LINES
        assert await f.read(f"web.{node}") == LINES
        assert await f.read(f"web.{node}", tail=2) == LINES[-2:]
        assert await f.read(f"web.{node}", tail=0) == []
        await until_so(lambda: f.locals[node].following == 0, 10, "all closed")


async def test_long_lines_are_cut_and_long_logs_are_not() -> None:
    async with fleet() as f:
        many = [LogLine(float(number), "stdout", f"line {number}") for number in range(5_000)]
        f.locals["b"].instances["web.b"] = [LogLine(0.0, "stdout", "😀" * 100_000), *many]
        first, *rest = await f.read("web.b", tail=10_000)
        assert first.text == "😀" * 65_536
        assert rest == many


async def test_following_ends_on_both_sides_when_the_reader_leaves() -> None:
    async with fleet() as f:
        f.locals["b"].instances["web.b"] = LINES
        async with f.logs["a"].open("web.b", tail=1, follow=True) as lines:
            assert (await anext(lines)).text == "last"
            assert f.locals["b"].following == 1
        await until_so(lambda: f.locals["b"].following == 0, 10, "the end of following")
        assert f.gossips["a"].streams.stats.outgoing == 0


async def test_a_node_that_stops_is_told_to_who_follows() -> None:
    async with fleet() as f:
        f.locals["b"].instances["web.b"] = LINES
        async with f.logs["a"].open("web.b", tail=1, follow=True) as lines:
            await anext(lines)
            await f.gossips["b"].close()
            with pytest.raises(RefusedError, match="node b gives no logs: this node stops") as end:
                await anext(lines)
        assert (end.value.code, end.value.status) == ("node-unreachable", 503)


async def test_a_node_that_is_dead_is_not_asked() -> None:
    async with fleet() as f:
        await f.gossips["b"].leave()
        await until_so(
            lambda: not next(m for m in f.gossips["a"].members() if m.name == "b").online,
            20,
            "b has left",
        )
        with pytest.raises(RefusedError, match=r"web.b runs on node b, which is left") as refused:
            await f.read("web.b")
        assert (refused.value.code, refused.value.status) == ("node-down", 503)
        assert "when it is back" in refused.value.hint


async def test_what_does_not_exist_is_told_apart() -> None:
    async with fleet() as f:
        with pytest.raises(KeyError):
            await f.read("no.b")
        # The catalog has it still, but its node has not.
        with pytest.raises(RefusedError, match=r"b: web\.b does not run here") as refused:
            await f.read("web.b")
        assert (refused.value.code, refused.value.status) == ("unknown-instance", 409)


async def test_an_agent_without_the_service_is_older() -> None:
    async with fleet() as f:
        f.catalog.put(Instance("web.old", "web", "old", "127.0.0.1", {"http": 80}, Health.HEALTHY))
        old = Gossip(GossipConfig("old"), bind=("127.0.0.1", 0), keyring=Keyring([b"k" * 32]))
        await old.start()
        try:
            host, port = old.local.address
            await f.gossips["a"].join([f"{host}:{port}"])
            with pytest.raises(RefusedError, match="node old gives no logs") as refused:
                await f.read("web.old")
            assert (refused.value.code, refused.value.status) == ("no-logs", 502)
        finally:
            await old.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 3000,
        json.dumps({"instance": "web.b", "tail": "1", "follow": False}).encode(),
        json.dumps({"instance": ["web.b"], "tail": 1, "follow": False}).encode(),
        json.dumps({"instance": "web.b", "tail": 1, "follow": 1}).encode(),
    ],
)
async def test_requests_that_are_none_are_refused(request_bytes: bytes) -> None:
    async with fleet() as f:
        f.locals["b"].instances["web.b"] = LINES
        with pytest.raises(RemoteRejectionError, match="not a request for logs"):
            await f.gossips["a"].streams.call(f.gossips["b"].local, SERVICE, request_bytes)
        assert f.locals["b"].asked == []


async def test_how_many_lines_may_be_asked_for_is_limited() -> None:
    async with fleet() as f:
        f.locals["b"].instances["web.b"] = LINES
        for tail in (-5, 10**9):
            await f.read("web.b", tail=tail)
        assert [tail for _, tail, _ in f.locals["b"].asked] == [0, 10_000]


@pytest.mark.parametrize(
    "message", [b"", b"[1]", b'["x","stdout","y"]', b'[1,"stdout",2]', b"\xff"]
)
async def test_lines_that_are_none_are_not_believed(message: bytes) -> None:
    async with fleet() as f:
        f.catalog.put(Instance("web.c", "web", "c", "127.0.0.1", {"http": 80}, Health.HEALTHY))
        other = Gossip(GossipConfig("c"), bind=("127.0.0.1", 0), keyring=Keyring([b"k" * 32]))
        await other.start()

        async def lie(stream: Stream) -> None:
            await stream.send(b"{}")
            await stream.send(message)

        other.streams.serve(SERVICE, lie)
        try:
            host, port = other.local.address
            await f.gossips["a"].join([f"{host}:{port}"])
            with pytest.raises(RefusedError, match="cannot be read"):
                await f.read("web.c")
        finally:
            await other.close()
