"""A catalog in memory, for tests of what reads the catalog."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from constellation_core.model.instance import Instance
from constellation_core.model.node import Node
from constellation_core.model.published import PublishedService
from constellation_core.model.service import Service


class FakeCatalog:
    """A :class:`~constellation_core.plugins.context.CatalogView` that a test fills by hand.

    Every change that changes something raises :attr:`revision` by one, and wakes those who
    wait for it::

        catalog = FakeCatalog()
        catalog.publish(PublishedService("web", ports=(Port("http"),)))
        catalog.put(Instance("web.a", "web", "a", "127.0.0.1", {"http": 80}, Health.HEALTHY))
        assert catalog.changed_services(since=1) == {"web"}

    Args:
        warm: see :attr:`~constellation_core.plugins.context.CatalogView.warm`.
        history: how many changes :meth:`changed_services` remembers.
    """

    def __init__(self, *, warm: bool = True, history: int = 10_000) -> None:
        self.warm = warm
        self._revision = 0
        self._services: dict[str, PublishedService] = {}
        self._instances: dict[str, Instance] = {}
        self._ids: list[str] = []
        self._ids_of: dict[str, list[str]] = {}
        self._nodes: dict[str, Node] = {}
        self._log: deque[tuple[int, str]] = deque(maxlen=history)
        self._changed = asyncio.Condition()
        self._wakers: set[asyncio.Task[None]] = set()

    # --- what a test does ---

    def publish(self, service: PublishedService | Service, *, domain: str = "") -> None:
        """Put a definition in force, in the place of an earlier one of the same name."""
        if isinstance(service, Service):
            service = PublishedService.of(service, domain=domain)
        if self._services.get(service.name) != service:
            self._services[service.name] = service
            self._note(service.name)

    def withdraw(self, name: str) -> None:
        """Take a definition away; no-op when there is none."""
        if self._services.pop(name, None) is not None:
            self._note(name)

    def put(self, *instances: Instance) -> None:
        """Add instances, or replace those with the same ids."""
        for instance in instances:
            before = self._instances.get(instance.id)
            if before == instance:
                continue
            if before is not None and before.service != instance.service:
                self.remove(instance.id)
                before = None
            if before is None:
                insort(self._ids, instance.id)
                insort(self._ids_of.setdefault(instance.service, []), instance.id)
            self._instances[instance.id] = instance
            self._note(instance.service)

    def remove(self, instance_id: str) -> None:
        """Remove an instance; no-op when there is none."""
        gone = self._instances.pop(instance_id, None)
        if gone is not None:
            self._ids.remove(instance_id)
            self._ids_of[gone.service].remove(instance_id)
            self._note(gone.service)

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """Say what :meth:`nodes` answers."""
        self._nodes = {node.name: node for node in nodes}
        self._note(None)

    # --- what CatalogView promises ---

    @property
    def revision(self) -> int:
        """Grows with every change."""
        return self._revision

    def instances(self, service: str | None = None) -> Sequence[Instance]:
        """All instances, or those of one service, ordered by id."""
        ids = self._ids if service is None else self._ids_of.get(service, ())
        return [self._instances[each] for each in ids]

    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this id."""
        return self._instances.get(instance_id)

    def services(self) -> Mapping[str, PublishedService]:
        """The definitions, by name."""
        return self._services

    def changed_services(self, since: int) -> set[str] | None:
        """Names of what changed after ``since``; ``None`` when that is not remembered."""
        oldest = self._log[0][0] if self._log else self._revision + 1
        if since < oldest - 1:
            return None
        return {name for revision, name in self._log if revision > since and name}

    def nodes(self) -> Sequence[Node]:
        """The nodes given to :meth:`set_nodes`, ordered by name."""
        return [self._nodes[name] for name in sorted(self._nodes)]

    async def wait_change(self, since: int) -> int:
        """Wait until :attr:`revision` is greater than ``since``; return it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._revision > since)
            return self._revision

    def _note(self, service: str | None) -> None:
        self._revision += 1
        self._log.append((self._revision, service or ""))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # Filled before the loop runs: nobody can be waiting.
        waker = loop.create_task(self._wake())
        self._wakers.add(waker)
        waker.add_done_callback(self._wakers.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
