"""What the fleet looks like from here: instances and definitions, computed from the rows."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.published import PublishedService

_REMEMBERED_CHANGES = 10_000


@dataclass(frozen=True, slots=True)
class InstanceChanged:
    """An instance is new (``previous`` is ``None``), different, or gone (``instance`` is)."""

    instance: Instance | None
    previous: Instance | None


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """The definition in force of a service is new, different, or gone."""

    service: PublishedService | None
    previous: PublishedService | None


Change = InstanceChanged | ServiceChanged


class View:
    """Effective instances and definitions in force, with cheap answers to "what changed?"."""

    def __init__(self) -> None:
        self.revision = 0
        self._instances: dict[str, Instance] = {}
        self._by_service: dict[str, dict[str, Instance]] = {}
        self._published: dict[str, dict[str, tuple[PublishedService, str]]] = {}
        self._in_force: dict[str, PublishedService] = {}
        # The last one belongs to the present revision, the one before to the one before.
        self._changes: deque[str] = deque(maxlen=_REMEMBERED_CHANGES)
        self._waiters: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[Change], None]] = []

    # --- reading -----------------------------------------------------------------------------

    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this id."""
        return self._instances.get(instance_id)

    def instances(self, service: str | None = None) -> Sequence[Instance]:
        """All instances, or those of one service, by id."""
        found = self._instances if service is None else self._by_service.get(service, {})
        return [found[key] for key in sorted(found)]

    def services(self) -> Mapping[str, PublishedService]:
        """The definition in force of each service."""
        return dict(self._in_force)

    def changed_services(self, since: int) -> set[str] | None:
        """Services that changed after revision ``since``; ``None`` when that is too long ago."""
        if since >= self.revision:
            return set()
        newer = self.revision - since
        if len(self._changes) < newer:
            return None
        return set(islice(reversed(self._changes), newer))

    async def wait_change(self, since: int) -> int:
        """Wait until the revision is above ``since``; return it."""
        while self.revision <= since:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self.revision

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``listener`` with every change; returns what ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def acquaint(self, other: View) -> None:
        """Show what another view shows, as one change that nobody is told of."""
        self._instances = dict(other._instances)
        self._by_service = {name: dict(found) for name, found in other._by_service.items()}
        self._published = {name: dict(owners) for name, owners in other._published.items()}
        self._in_force = dict(other._in_force)
        self._changes.clear()
        self.revision += 1

    # --- writing -----------------------------------------------------------------------------

    def put_instance(self, instance: Instance | None, instance_id: str) -> None:
        """Set the effective instance of this id, or remove it."""
        previous = self._instances.get(instance_id)
        if instance == previous:
            return
        if previous is not None:
            peers = self._by_service[previous.service]
            del peers[instance_id]
            if not peers:
                del self._by_service[previous.service]
        if instance is None:
            self._instances.pop(instance_id, None)
        else:
            self._instances[instance_id] = instance
            self._by_service.setdefault(instance.service, {})[instance_id] = instance
        known = instance or previous
        if known is not None:
            self._changed(known.service, InstanceChanged(instance, previous))

    def put_published(self, owner: str, name: str, service: PublishedService | None) -> None:
        """Set what ``owner`` publishes of the service ``name``."""
        owners = self._published.setdefault(name, {})
        if service is None:
            owners.pop(owner, None)
        else:
            owners[owner] = (service, service.version)
        if not owners:
            del self._published[name]

    def elect(self, name: str, living: Callable[[str], bool]) -> None:
        """Find the definition of ``name`` in force: the one that most living owners publish."""
        owners = self._published.get(name, {})
        voters = [owner for owner in owners if living(owner)] or list(owners)
        votes = Counter(owners[owner][1] for owner in voters)
        chosen: PublishedService | None = None
        if votes:
            version = max(votes, key=lambda each: (votes[each], each))
            chosen = next(service for service, v in owners.values() if v == version)
        previous = self._in_force.get(name)
        if chosen == previous:
            return
        if chosen is None:
            del self._in_force[name]
        else:
            self._in_force[name] = chosen
        self._changed(name, ServiceChanged(chosen, previous))

    def _changed(self, service: str, change: Change) -> None:
        self.revision += 1
        self._changes.append(service)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for listener in list(self._listeners):
            listener(change)


def effective(instance: Instance, ceiling: Health, reason: str) -> Instance:
    """``instance`` with the lesser of its own health and what its owner's state allows."""
    if instance.health <= ceiling:
        return instance
    return replace(instance, health=ceiling, reason=reason)
