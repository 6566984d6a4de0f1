"""What the clients notice when a node dies: 100 requests a second, and SIGKILL of one of three.

Ours: three agents with a service on each, behind Traefik with the routes of this fleet and its
retry middleware. The peer: a Traefik with a static list of three such servers and its own health
check, no retry, as its documentation shows it. Both get the same load at the same time, and one
of the three servers of each is killed at the same moment; then it comes back, and another one is
killed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.result import BenchmarkResult, Criterion, MissingPeerError, Tell
from constellation_core.testing.child import start_child
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until
from constellation_plugin_demo import sample_service
from constellation_plugin_demo.fleet import ENTRY_POINT, HOST, DemoFleet
from constellation_plugin_demo.load import Load
from constellation_plugin_traefik.server import (
    StaticConfig,
    TraefikError,
    TraefikProcess,
    find_traefik,
)

SUMMARY = "requests lost when a node is killed, beside Traefik with a static list of servers"

RATE = 100.0
_NAMES = ("node-a", "node-b", "node-c")
_CALM, _AFTER = 3.0, 10.0
_VICTIMS = ("node-c", "node-b", "node-c")
_AIM = 0.001
_LOCAL = "127.0.0.1"


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about a minute."""
    try:
        find_traefik()
    except TraefikError as error:
        raise MissingPeerError(str(error)) from None
    return asyncio.run(_measure(tell))


async def _measure(tell: Tell) -> BenchmarkResult:
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="constellation-reroute-"))
        )
        tell("starting three agents, six servers and two Traefiks")
        for name in ("fleet", "plain"):
            (folder / name).mkdir()
        fleet = await stack.enter_async_context(DemoFleet(folder / "fleet", list(_NAMES)))
        plain = await stack.enter_async_context(_PlainTraefik(folder / "plain"))
        await fleet.wait_until_whole()
        loads = {
            "ours": Load(fleet.url, HOST, RATE),
            "peer": Load(plain.url, HOST, RATE),
        }
        reroutes: list[float] = []
        ends = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for load in loads.values():
                group.create_task(load.run(ends))
            await asyncio.sleep(_CALM)
            for victim in _VICTIMS:
                tell(f"kill -9 {victim}")
                reroutes.append(await _kill(fleet, plain, victim))
                await asyncio.sleep(_AFTER)
                await asyncio.gather(fleet.cluster.start_node(victim), plain.start(victim))
                await fleet.wait_until_whole()
                # Its own health check has to find the server again.
                await asyncio.sleep(_CALM)
            ends.set()
    ours, peer = loads["ours"].stats, loads["peer"].stats
    lost, peer_lost = ours.failed / ours.requests, peer.failed / peer.requests
    return BenchmarkResult(
        "reroute",
        ours={
            "requests": ours.requests,
            "failed": ours.failed,
            "lost": round(lost, 6),
            "reasons": dict(ours.reasons),
            "reroute_seconds": reroutes,
        },
        peer={
            "requests": peer.requests,
            "failed": peer.failed,
            "lost": round(peer_lost, 6),
            "reasons": dict(peer.reasons),
        },
        ratio=round(lost / peer_lost, 4) if peer_lost else float(lost > 0),
        criteria=(Criterion("at most 0.1 % of requests lost", lost <= _AIM),),
    )


async def _kill(fleet: DemoFleet, plain: _PlainTraefik, victim: str) -> float:
    """Kill both servers; seconds until the fleet's Traefik lists the victim no more."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(fleet.cluster.kill(victim), plain.kill(victim))

    async def gone() -> bool:
        return victim not in await fleet.routed()

    await until(gone, 30.0, f"Traefik to leave {victim}", interval=0.02)
    return round(loop.time() - began, 3)


class _PlainTraefik:
    """Traefik with a list of servers that nobody changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        ports = PortPicker(_LOCAL)
        self._ports = {name: ports.pick() for name in _NAMES}
        self._servers: dict[str, asyncio.subprocess.Process] = {}
        self.url = ""

    async def __aenter__(self) -> _PlainTraefik:
        try:
            for name in _NAMES:
                await self.start(name)
            provider = await self._serve_document()
            config = StaticConfig.on_free_ports(provider, [ENTRY_POINT])
            traefik = await self._stack.enter_async_context(TraefikProcess(config, self._folder))
            await traefik.wait_until_routed(["plain"])
            self.url = f"http://{config.entry_points[ENTRY_POINT]}/"
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop all."""
        await self._stack.aclose()
        for name in list(self._servers):
            await self.kill(name)

    async def start(self, name: str) -> None:
        """Start one server."""
        program = str(Path(sample_service.__file__))
        self._servers[name] = await start_child(
            [sys.executable, "-I", "-S", program, _LOCAL, str(self._ports[name]), name],
            log_file=self._folder / f"{name}.log",
        )

    async def kill(self, name: str) -> None:
        """SIGKILL one server."""
        process = self._servers.pop(name)
        process.kill()
        await process.wait()

    async def _serve_document(self) -> str:
        """Hand Traefik its static list; through the same provider, so that all else is equal."""

        async def document(_request: web.Request) -> web.Response:
            return web.json_response(self._document())

        app = web.Application()
        app.router.add_get("/", document)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, _LOCAL, 0)
        await site.start()
        return f"http://{_LOCAL}:{runner.addresses[0][1]}/"

    def _document(self) -> Mapping[str, Any]:
        servers = [{"url": f"http://{_LOCAL}:{port}"} for port in self._ports.values()]
        check = {"path": "/", "interval": "1s", "timeout": "1s"}
        return {
            "http": {
                "routers": {"plain": {"rule": f"Host(`{HOST}`)", "service": "plain"}},
                "services": {"plain": {"loadBalancer": {"servers": servers, "healthCheck": check}}},
            }
        }
