"""Runs the checks of all local instances, and carries out what their results decide."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from constellation_core import Health, PluginContext
from constellation_core.backoff import RestartBackoff
from constellation_core.runtime import Phase
from constellation_plugin_monitor.config import MonitorConfig
from constellation_plugin_monitor.machine import CheckMachine, Decision
from constellation_plugin_monitor.probes import Outcome, Prober

_JITTER = 0.1
_STALL = 1.0
"""Seconds; when an attempt took so much longer than it may, the agent itself was not running."""


class Monitor:
    """One task for each local instance that has a check."""

    def __init__(
        self, context: PluginContext, config: MonitorConfig, rng: Random | None = None
    ) -> None:
        self._context = context
        self._config = config
        self._rng = rng or Random()
        self._slots = asyncio.Semaphore(config.max_concurrent)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Check until cancelled."""
        end = self._context.local.subscribe(lambda _: self._changed.set())
        try:
            async with Prober(self._context) as prober, asyncio.TaskGroup() as group:
                while True:
                    self._changed.clear()
                    await self._follow(self._context.local.ids(), prober, group)
                    await self._changed.wait()
        finally:
            end()

    async def _follow(self, ids: Sequence[str], prober: Prober, group: asyncio.TaskGroup) -> None:
        for instance_id in list(self._tasks):
            if instance_id not in ids or self._tasks[instance_id].done():
                self._tasks.pop(instance_id).cancel()
        for instance_id in ids:
            if instance_id in self._tasks or self._context.local.service(instance_id).check is None:
                continue
            checks = _InstanceChecks(
                self._context, self._config, instance_id, prober, self._slots, self._rng
            )
            self._tasks[instance_id] = group.create_task(checks.run(), name=f"check:{instance_id}")


class _InstanceChecks:
    """The checks of one instance, until it is gone."""

    def __init__(
        self,
        context: PluginContext,
        config: MonitorConfig,
        instance_id: str,
        prober: Prober,
        slots: asyncio.Semaphore,
        rng: Random,
    ) -> None:
        self._context = context
        self._id = instance_id
        self._prober = prober
        self._slots = slots
        self._rng = rng
        self._service = context.local.service(instance_id)
        backoff = RestartBackoff(self._service.restart, rng)
        check = self._service.check
        if check is None:
            raise ValueError(f"{instance_id} has no check")
        self._check = check
        self._machine = CheckMachine(check, self._service.restart, backoff, heal=config.restart)
        self._started_at: float | None = None
        self._restart: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Check again and again. Ends when the instance is gone or has another definition."""
        try:
            # The first check comes at once, so that a quick service serves quickly.
            while await self._once():
                spread = 1 + _JITTER * (2 * self._rng.random() - 1)
                await self._context.clock.sleep(self._pause() * spread)
        except KeyError:
            # The instance was removed between two looks at it.
            pass
        finally:
            if self._restart is not None:
                self._restart.cancel()

    def _pause(self) -> float:
        # Until the first verdict look more often: a start should not cost a whole interval.
        instance = self._context.local.instance(self._id)
        if instance.health is Health.STARTING:
            return min(self._check.interval, 0.5)
        return self._check.interval

    async def _once(self) -> bool:
        local = self._context.local
        if self._id not in local.ids() or local.service(self._id) is not self._service:
            return False
        status = local.status(self._id)
        if status.phase is not Phase.RUNNING or status.started_at is None:
            return True
        clock = self._context.clock
        if status.started_at != self._started_at:
            self._started_at = status.started_at
            self._cancel_restart()
            self._machine.started(status.started_at)
        async with self._slots:
            began = clock.monotonic()
            outcome = await self._prober.attempt(
                self._check, self._service, local.instance(self._id)
            )
        now = clock.monotonic()
        if local.status(self._id).started_at != self._started_at:
            # It was restarted meanwhile: the result is about another process.
            return True
        if not outcome.passed and now - began > self._check.timeout + _STALL:
            self._context.log.warning("%s: a late result is not counted", self._id)
            return True
        self._carry_out(self._decide(outcome, now))
        return True

    def _decide(self, outcome: Outcome, now: float) -> Decision:
        if outcome.passed:
            return self._machine.passed(now)
        return self._machine.failed(now, outcome.detail)

    def _carry_out(self, decision: Decision) -> None:
        self._context.local.report_health(self._id, decision.health, decision.reason)
        if decision.health is Health.HEALTHY:
            self._cancel_restart()
        if decision.restart_in is not None:
            self._context.log.warning(
                "%s is %s (%s); restarted in %.1f s",
                self._id,
                decision.health.label if decision.health is not None else "unhealthy",
                decision.reason,
                decision.restart_in,
            )
            self._cancel_restart()
            self._restart = asyncio.create_task(
                self._restart_later(decision.restart_in, decision.reason)
            )

    async def _restart_later(self, wait: float, reason: str) -> None:
        await self._context.clock.sleep(wait)
        started_at = self._context.local.status(self._id).started_at
        if started_at == self._started_at:
            await self._context.local.restart(self._id, f"unhealthy: {reason}")

    def _cancel_restart(self) -> None:
        # A restart that has begun ends itself; a new start must not be ended by it.
        if self._restart is not None and not self._restart.done():
            self._restart.cancel()
        self._restart = None
