"""The demo's parts: agents, a sample service on each, and a Traefik that asks one of them."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.waiting import until
from constellation_plugin_demo import sample_service
from constellation_plugin_traefik.server import StaticConfig, TraefikProcess

SERVICE = "hello"
HOST = "hello.localhost"
ENTRY_POINT = "web"
_READY_TIMEOUT = 60.0
_POLL = 0.5


def services_file(check_interval: float = 1.0) -> str:
    """The services file that every node of the demo gets.

    Args:
        check_interval: seconds between two checks of an instance.
    """
    program = str(Path(sample_service.__file__))
    command = (sys.executable, "-I", "-S", program, "${ADDRESS}", "${PORT}", "${NODE}")
    return (
        '"""The services of this node."""\n\n'
        "from constellation_core import HTTPCheck, Port, Route, Service\n\n"
        f"{SERVICE} = Service(\n"
        f"    {SERVICE!r},\n"
        f"    command={command!r},\n"
        '    ports=(Port("http"),),\n'
        f"    routes=(Route(host={HOST!r}),),\n"
        f'    check=HTTPCheck("/", interval={check_interval!r}, timeout=1.0),\n'
        ")\n"
    )


class DemoFleet:
    """Agents and Traefik, running inside an ``async with`` block.

    Traefik asks the first node, as if it ran on that node's host.

    Args:
        folder: for all that they write.
        names: of the nodes.
        poll_interval: seconds between two polls of Traefik.
    """

    def __init__(self, folder: Path, names: list[str], *, poll_interval: float = _POLL) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self.cluster = LocalCluster(
            folder,
            names,
            services=services_file(),
            plugins=("process", "monitor", "traefik"),
            settings={"plugins": {"traefik": {"retry_in_flight": True}}},
        )
        self.names = names
        self.asked = self.cluster.nodes[names[0]]
        self.traefik = TraefikProcess(
            StaticConfig.on_free_ports(
                f"{self.asked.api}/api/traefik",
                [ENTRY_POINT],
                ports=self.cluster.ports,
                poll_interval=poll_interval,
            ),
            folder,
        )

    @property
    def url(self) -> str:
        """Where Traefik takes requests."""
        return f"http://{self.traefik.config.entry_points[ENTRY_POINT]}/"

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(self.cluster)
            await self._stack.enter_async_context(self.traefik)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def routed(self) -> set[str]:
        """The nodes whose instance Traefik sends requests to, as Traefik itself says.

        Raises:
            OSError: when its API does not answer.
        """
        services = await self.traefik.api.objects("http", "services")
        urls = {
            server["url"]
            for service in services.values()
            for server in service.get("loadBalancer", {}).get("servers") or ()
        }
        # Ports are not used twice on one host, so the instances tell whose URL it is.
        return {node for node, url in (await self._urls()).items() if url in urls}

    async def missing(self) -> str:
        """What lacks until every running node is seen, healthy and routed to; ``""``: nothing."""
        lacking = await self.cluster.missing()
        if lacking:
            return lacking
        try:
            routed = await self.routed()
        except OSError as error:
            return str(error)
        running = set(self.cluster.running)
        if routed != running:
            return f"Traefik routes to {', '.join(sorted(routed)) or 'no node'}"
        return ""

    async def wait_until_whole(self, timeout: float = _READY_TIMEOUT) -> None:
        """Wait until :meth:`missing` finds nothing.

        Raises:
            NotInTimeError: after ``timeout`` seconds, with what lacks.
        """
        lacking = ""

        async def whole() -> bool:
            nonlocal lacking
            lacking = await self.missing()
            return not lacking

        await until(whole, timeout, "a whole fleet", interval=0.1, explain=lambda: lacking)

    async def instances(self) -> dict[str, dict[str, Any]]:
        """The sample service's instances by node, as the asked node knows them."""
        found = await self.cluster.get(self.asked.name, f"/api/v1/instances?service={SERVICE}")
        return {each["node"]: each for each in found}

    async def _urls(self) -> dict[str, str]:
        instances = await self.instances()
        return {
            node: f"http://{each['address']}:{each['ports']['http']}"
            for node, each in instances.items()
            if "http" in each["ports"]
        }
