"""Local instances and secrets in memory, for tests of plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.service import Service
from constellation_core.runtime import Phase, RuntimeStatus

Execute = Callable[[str, Sequence[str], float], tuple[int, str]]


@dataclass(slots=True)
class _Local:
    service: Service
    instance: Instance
    status: RuntimeStatus
    verdict: tuple[Health, str] | None = None


class FakeLocalInstances:
    """A :class:`~constellation_core.plugins.context.LocalInstances` that runs nothing.

    Attributes:
        restarts: ``(instance id, reason)`` of every :meth:`restart`.
        reports: ``(instance id, health, reason)`` of every :meth:`report_health`.
        on_execute: answers :meth:`execute`; called with instance id, command and timeout. May
            raise what the real one raises.
    """

    def __init__(self) -> None:
        self.restarts: list[tuple[str, str]] = []
        self.reports: list[tuple[str, Health | None, str]] = []
        self.on_execute: Execute = lambda _id, _command, _timeout: (0, "")
        self._all: dict[str, _Local] = {}
        self._listeners: list[Callable[[str], None]] = []

    # --- what a test does ---

    def add(
        self,
        service: Service,
        instance: Instance | None = None,
        status: RuntimeStatus | None = None,
    ) -> str:
        """Add an instance, running and healthy on ``127.0.0.1`` when not said otherwise.

        Returns:
            Its id.
        """
        numbers = {port.name: port.number or 40_000 + n for n, port in enumerate(service.ports)}
        if instance is None:
            instance = Instance(
                f"{service.name}.node-a",
                service.name,
                "node-a",
                "127.0.0.1",
                numbers,
                Health.HEALTHY,
                service.weight,
                service.tags,
            )
        if status is None:
            status = RuntimeStatus(Phase.RUNNING, dict(instance.ports), pid=1, started_at=0.0)
        self._all[instance.id] = _Local(service, instance, status)
        self._tell(instance.id)
        return instance.id

    def remove(self, instance_id: str) -> None:
        """Take an instance away."""
        del self._all[instance_id]
        self._tell(instance_id)

    def set_status(self, instance_id: str, status: RuntimeStatus) -> None:
        """Change what the driver says of an instance, and tell the listeners."""
        self._all[instance_id].status = status
        self._tell(instance_id)

    # --- what LocalInstances promises ---

    def ids(self) -> Sequence[str]:
        """Ids, in order."""
        return sorted(self._all)

    def service(self, instance_id: str) -> Service:
        """The definition."""
        return self._all[instance_id].service

    def instance(self, instance_id: str) -> Instance:
        """As added, with its health made no better than the verdict reported for it."""
        local = self._all[instance_id]
        if local.verdict is None:
            return local.instance
        health, reason = local.verdict
        if health >= local.instance.health:
            return local.instance
        return replace(local.instance, health=health, reason=reason)

    def status(self, instance_id: str) -> RuntimeStatus:
        """As last set."""
        return self._all[instance_id].status

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call ``listener`` at every :meth:`add`, :meth:`remove` and :meth:`set_status`."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def report_health(self, instance_id: str, health: Health | None, reason: str = "") -> None:
        """Note the verdict; unknown ids change nothing."""
        self.reports.append((instance_id, health, reason))
        if instance_id in self._all:
            self._all[instance_id].verdict = None if health is None else (health, reason)

    async def restart(self, instance_id: str, reason: str) -> None:
        """Note the restart, and count it in the status."""
        local = self._all[instance_id]
        self.restarts.append((instance_id, reason))
        self.set_status(instance_id, replace(local.status, restarts=local.status.restarts + 1))

    async def execute(
        self, instance_id: str, command: Sequence[str], timeout: float
    ) -> tuple[int, str]:
        """What :attr:`on_execute` answers."""
        if instance_id not in self._all:
            raise KeyError(instance_id)
        return self.on_execute(instance_id, command, timeout)

    def _tell(self, instance_id: str) -> None:
        for listener in list(self._listeners):
            listener(instance_id)


class FakeSecrets:
    """Secrets from a map; a value that is an exception is raised."""

    def __init__(self, secrets: Mapping[str, str | Exception] | None = None) -> None:
        self.values: dict[str, str | Exception] = dict(secrets or {})

    def read(self, name: str) -> str:
        """The secret; ``LookupError`` for a name that the test did not give."""
        if name not in self.values:
            raise LookupError(f"the test gives no secret {name!r}")
        value = self.values[name]
        if isinstance(value, Exception):
            raise value
        return value
