"""Agents on real etcd members."""

from __future__ import annotations

import asyncio

from constellation_core.consensus.leases import LeaseTimes
from constellation_core.testing.waiting import until
from constellation_plugin_etcd.backend import EtcdBackend
from constellation_plugin_etcd.gateway import STATUS, HttpGateway
from constellation_plugin_etcd.testing.members import Members

_DEADLINE = 60.0


class EtcdFleet:
    """A :class:`~constellation_core.testing.consensus.conformance.Fleet` on real members.

    Args:
        members: which run.
        prefix: of the keys; not used before.
    """

    ttl = 3.0

    def __init__(self, members: Members, prefix: str) -> None:
        self._members = members
        self._prefix = prefix
        self._times = LeaseTimes(ttl=self.ttl)
        self._agents: dict[str, tuple[EtcdBackend, HttpGateway, asyncio.Task[None]]] = {}
        self._gone: list[asyncio.Task[None]] = []

    async def join(self, node: str) -> EtcdBackend:
        """As the fleet's."""
        gateway = HttpGateway(list(self._members.urls.values()))
        backend = EtcdBackend(gateway, node=node, prefix=self._prefix, times=self._times)
        self._agents[node] = (backend, gateway, asyncio.create_task(backend.run()))
        return backend

    async def crash(self, node: str) -> None:
        """As the fleet's."""
        _, gateway, running = self._agents.pop(node)
        await gateway.close()
        self._gone.append(running)

    async def cut(self) -> None:
        """Kill all members but one."""
        for name in self._members.names[1:]:
            self._members.kill(name)

    async def heal(self) -> None:
        """Start them again."""
        self._members.start_all()

    async def stumble(self) -> None:
        """Kill the member that leads, and start it when another one leads."""
        leader = await self._leader()
        self._members.kill(leader)
        await self._leader()
        self._members.start(leader)

    async def stop(self) -> None:
        """Stop all agents."""
        for backend, _, running in self._agents.values():
            await backend.close()
            self._gone.append(running)
        for task in self._gone:
            task.cancel()
        if self._gone:
            await asyncio.wait(self._gone)

    async def _leader(self) -> str:
        """The name of the member that leads, as soon as there is one."""
        gateway = HttpGateway(list(self._members.urls.values()))
        names = {url: name for name, url in self._members.urls.items()}

        async def find() -> str | None:
            answers = await gateway.ask_each(STATUS, 1.0)
            for url, answer in answers.items():
                if isinstance(answer, dict):
                    header = answer["header"]
                    if answer.get("leader") == header["member_id"] and not answer.get("errors"):
                        return names[url]
            return None

        try:
            found = await until(find, _DEADLINE, "a leader")
        finally:
            await gateway.close()
        assert found is not None
        return found
