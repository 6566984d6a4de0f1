"""The instances that this agent runs: started through drivers, judged, published."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.published import PublishedService
from constellation_core.model.service import Service
from constellation_core.plugins.guard import bounded, contained, explain, place
from constellation_core.runtime import (
    InstanceSpec,
    LogLine,
    Phase,
    RuntimeDriver,
    RuntimeStatus,
)
from constellation_core.workloads.judgement import Verdict, judge

log = logging.getLogger("constellation.workloads")

_LENIENCE = 15.0
"""Seconds that a driver may take longer to stop an instance than the instance itself may."""

ChooseDriver = Callable[[Service, Sequence[str]], str | None]


class Publisher(Protocol):
    """Where instances and definitions are made known; the catalog is one."""

    def publish_instance(self, instance: Instance) -> None:
        """Raises ``ValueError`` when other nodes would not take it."""

    def withdraw_instance(self, instance_id: str) -> None: ...

    def publish_service(self, service: PublishedService) -> None:
        """Raises ``ValueError`` when other nodes would not take it."""

    def withdraw_service(self, name: str) -> None: ...


@dataclass(slots=True)
class _Workload:
    service: Service
    definition: PublishedService
    driver: RuntimeDriver
    status: RuntimeStatus
    verdict: Verdict | None = None
    published: Instance | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LocalWorkloads:
    """Runs one instance of each service on this node.

    Args:
        node: this node's name.
        address: the IP literal under which other nodes reach the instances.
        domain: replaces ``{domain}`` in routes.
        publisher: is told of every change.
        choose_driver: picks among several drivers that accept a service; see the hook.
    """

    def __init__(
        self,
        node: str,
        address: str,
        domain: str,
        publisher: Publisher,
        choose_driver: ChooseDriver = lambda _service, _drivers: None,
    ) -> None:
        self._node = node
        self._address = address
        self._domain = domain
        self._publisher = publisher
        self._choose_driver = choose_driver
        self._drivers: dict[str, RuntimeDriver] = {}
        self._workloads: dict[str, _Workload] = {}
        self._refused: dict[str, str] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._apply_lock = asyncio.Lock()
        self._closed = False

    # --- drivers and services ----------------------------------------------------------------

    def add_driver(self, driver: RuntimeDriver) -> None:
        """Offer a driver; those added first are asked first.

        Raises:
            TypeError: when it lacks what a driver has.
            ValueError: when there is one of that name.
        """
        if not isinstance(driver, RuntimeDriver) or not isinstance(driver.name, str):
            raise TypeError(f"a value of type {type(driver).__name__} is not a RuntimeDriver")
        if driver.name in self._drivers:
            raise ValueError(f"there is a runtime driver named {driver.name!r} already")
        driver.attach(self)
        self._drivers[driver.name] = driver

    @property
    def drivers(self) -> Sequence[str]:
        """Names of the drivers."""
        return list(self._drivers)

    @property
    def refused(self) -> Mapping[str, str]:
        """Services that cannot run here, with the reason."""
        return dict(self._refused)

    def move(self, address: str) -> None:
        """From now on other nodes reach the instances at this address."""
        self._address = address
        for instance_id in self._workloads:
            self._changed(instance_id)

    async def apply(self, services: Sequence[Service]) -> None:
        """Make these the services that run: start new ones, stop old ones, replace changed ones.

        A service that fails costs only itself; see :attr:`refused`. After :meth:`close` nothing
        is started any more.
        """
        async with self._apply_lock:
            if self._closed:
                return
            wanted = {self._id(service): service for service in services}
            running = {key: load.service for key, load in self._workloads.items()}
            async with asyncio.TaskGroup() as group:
                for instance_id, service in running.items():
                    if wanted.get(instance_id) != service:
                        group.create_task(self._remove(instance_id))
            self._refused.clear()
            async with asyncio.TaskGroup() as group:
                for instance_id, service in wanted.items():
                    if instance_id not in self._workloads:
                        group.create_task(self._add(instance_id, service))

    async def close(self) -> None:
        """Stop all instances, all at once, and close the drivers; start none from now on."""
        self._closed = True
        async with self._apply_lock:
            async with asyncio.TaskGroup() as group:
                for instance_id in list(self._workloads):
                    group.create_task(self._remove(instance_id))
            for driver in self._drivers.values():
                try:
                    await bounded(driver.close(), 2 * _LENIENCE)
                except Exception as error:  # noqa: BLE001 - a plugin's driver may raise anything
                    log.error("closing driver %s failed: %s", driver.name, explain(error))

    # --- LocalInstances ----------------------------------------------------------------------

    def ids(self) -> Sequence[str]:
        """Ids of the instances, in order."""
        return sorted(self._workloads)

    def service(self, instance_id: str) -> Service:
        """The full definition. Raises ``KeyError`` for an unknown id."""
        return self._workloads[instance_id].service

    def instance(self, instance_id: str) -> Instance:
        """As it is published. Raises ``KeyError`` for an unknown id."""
        return self._instance(instance_id, self._workloads[instance_id])

    def status(self, instance_id: str) -> RuntimeStatus:
        """As its driver sees it. Raises ``KeyError`` for an unknown id."""
        return self._workloads[instance_id].status

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call ``listener(instance_id)`` after every change; returns what ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def report_health(self, instance_id: str, health: Health | None, reason: str = "") -> None:
        """A checker's verdict; ``None`` takes it back. Unknown ids are ignored."""
        workload = self._workloads.get(instance_id)
        if workload is not None:
            workload.verdict = Verdict(health, reason) if health is not None else None
            self._changed(instance_id)

    async def restart(self, instance_id: str, reason: str) -> None:
        """Restart it now. Raises ``KeyError`` for an unknown id."""
        workload = self._workloads[instance_id]
        log.info("restarting %s: %s", instance_id, reason)
        async with workload.lock:
            if self._workloads.get(instance_id) is workload:
                await workload.driver.restart(instance_id, reason)

    async def execute(
        self, instance_id: str, command: Sequence[str], timeout: float
    ) -> tuple[int, str]:
        """Run a command beside the instance; see the driver's method."""
        return await self._workloads[instance_id].driver.execute(instance_id, command, timeout)

    def logs(self, instance_id: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """What the instance wrote. Raises ``KeyError`` for an unknown id."""
        return self._workloads[instance_id].driver.logs(instance_id, tail=tail, follow=follow)

    # --- DriverEvents ------------------------------------------------------------------------

    def status_changed(self, instance_id: str, status: RuntimeStatus) -> None:
        """A driver reports; called on the event loop."""
        workload = self._workloads.get(instance_id)
        if workload is None:
            return
        if status.started_at != workload.status.started_at:
            # A verdict about the last run says nothing about this one.
            workload.verdict = None
        workload.status = status
        self._changed(instance_id)

    # --- inside ------------------------------------------------------------------------------

    def _id(self, service: Service) -> str:
        return f"{service.name}.{self._node}"

    async def _add(self, instance_id: str, service: Service) -> None:
        driver = self._driver_for(service)
        if driver is None:
            return
        try:
            definition = PublishedService.of(service, domain=self._domain)
            self._publisher.publish_service(definition)
        except ValueError as error:
            problem = " ".join(str(error).split())
            log.error("%s cannot be made known, so it does not run: %s", instance_id, problem)
            self._refused[service.name] = problem
            return
        workload = _Workload(service, definition, driver, RuntimeStatus(Phase.PENDING))
        self._workloads[instance_id] = workload
        spec = InstanceSpec(instance_id, service, self._node, self._address)
        async with workload.lock:
            try:
                await contained(driver.start(spec))
            except Exception as error:  # noqa: BLE001 - a plugin's driver may raise anything
                reason = _reason(error)
                log.error("%s cannot run: %s", instance_id, reason)
                self._refused[service.name] = reason
                self._forget(instance_id)

    async def _remove(self, instance_id: str) -> None:
        workload = self._workloads[instance_id]
        service = workload.service
        async with workload.lock:
            try:
                await bounded(workload.driver.stop(instance_id), service.stop_grace + _LENIENCE)
            except Exception as error:  # noqa: BLE001 - a plugin's driver may raise anything
                log.error("stopping %s failed: %s", instance_id, _reason(error))
            self._forget(instance_id)

    def _forget(self, instance_id: str) -> None:
        workload = self._workloads.pop(instance_id)
        if workload.published is not None:
            self._publisher.withdraw_instance(instance_id)
        self._publisher.withdraw_service(workload.service.name)
        self._notify(instance_id)

    def _driver_for(self, service: Service) -> RuntimeDriver | None:
        reasons = {name: _refusal(driver, service) for name, driver in self._drivers.items()}
        fitting = [name for name, reason in reasons.items() if reason is None]
        if service.driver is not None:
            if service.driver in fitting:
                return self._drivers[service.driver]
            problem = reasons.get(
                service.driver,
                f"there is no runtime driver {service.driver!r}; there is: "
                f"{', '.join(self._drivers) or 'none'}",
            )
        elif fitting:
            chosen = self._choose_driver(service, fitting) if len(fitting) > 1 else None
            return self._drivers[chosen if chosen in fitting else fitting[0]]
        elif reasons:
            problem = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        else:
            problem = (
                "no runtime driver is enabled; for example: constellation plugins enable process"
            )
        log.error("service %s cannot run: %s", service.name, problem)
        self._refused[service.name] = str(problem)
        return None

    def _changed(self, instance_id: str) -> None:
        workload = self._workloads[instance_id]
        instance = self._instance(instance_id, workload)
        # Without its ports nobody could use it, so it is told of once it has them.
        if instance != workload.published and (instance.ports or not workload.service.ports):
            before = workload.published.health if workload.published else None
            workload.published = instance
            if instance.health is not before:
                log.info(
                    "%s is %s%s",
                    instance_id,
                    instance.health.label,
                    f": {instance.reason}" if instance.reason else "",
                )
            try:
                self._publisher.publish_instance(instance)
            except ValueError as error:
                log.error("%s cannot be made known: %s", instance_id, error)
        self._notify(instance_id)

    def _instance(self, instance_id: str, workload: _Workload) -> Instance:
        service, status = workload.service, workload.status
        verdict = judge(status, checked=service.check is not None, verdict=workload.verdict)
        return Instance(
            id=instance_id,
            service=service.name,
            node=self._node,
            address=self._address,
            ports=dict(status.ports),
            health=verdict.health,
            weight=service.weight,
            tags=service.tags,
            version=workload.definition.version,
            reason=verdict.reason,
            restarts=status.restarts,
        )

    def _notify(self, instance_id: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(instance_id)
            except Exception as error:  # noqa: BLE001 - a plugin's may raise anything
                log.error(
                    "a listener failed at %s: %s, at %s", instance_id, explain(error), place(error)
                )


def _refusal(driver: RuntimeDriver, service: Service) -> str | None:
    try:
        answer = driver.accepts(service)
    except Exception as error:  # noqa: BLE001 - a driver may raise anything
        return f"it failed to say whether it can run it: {explain(error)}"
    return None if answer is None else str(answer)


def _reason(error: Exception) -> str:
    """In words for the operator: what drivers are to raise says enough without its type."""
    return str(error) if isinstance(error, OSError | RuntimeError) else explain(error)
