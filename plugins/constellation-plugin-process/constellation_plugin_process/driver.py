"""The driver: instances by id, the keeper, and what an earlier life left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

from constellation_core.model.networks import HOST_NETWORK
from constellation_core.model.security import Security
from constellation_core.model.service import Service
from constellation_core.plugins.context import Clock
from constellation_core.runtime import (
    DriverEvents,
    InstanceSpec,
    LogLine,
    RuntimeStatus,
)
from constellation_plugin_process import keeper
from constellation_plugin_process.config import ProcessConfig
from constellation_plugin_process.instance import ProcessInstance
from constellation_plugin_process.logs import InstanceLog


class ProcessDriver:
    """Runs services as processes of this host.

    Args:
        config: the plugin's settings.
        data_dir: where logs, working directories and the mark are kept.
        clock: time.
        log: the plugin's logger.
        rng: jitter of restarts.
    """

    name = "process"

    def __init__(
        self,
        config: ProcessConfig,
        data_dir: Path,
        clock: Clock,
        log: logging.Logger,
        rng: Random | None = None,
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._clock = clock
        self._log = log
        self._rng = rng or Random()
        self._instances: dict[str, ProcessInstance] = {}
        self._events: DriverEvents | None = None
        self._keeper: asyncio.subprocess.Process | None = None
        self._ready: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._mark = ""

    # --- RuntimeDriver -----------------------------------------------------------------------

    def accepts(self, service: Service) -> str | None:
        """Any service that names a command, and asks for nothing that only a container has."""
        if not service.command:
            return "it has no command" if service.image is None else "it has an image, no command"
        if service.image is not None and service.driver != self.name:
            return "it has an image; driver='process' would run its command without it"
        asked = needs_container(service)
        return f"a process cannot be given its {', '.join(asked)}" if asked else None

    def attach(self, events: DriverEvents) -> None:
        """Take the sink for status changes."""
        self._events = events

    async def start(self, spec: InstanceSpec) -> None:
        """Run the instance. A command that is not there now may be later, so it is retried."""
        if self._ready is None or (self._ready.done() and self._ready.exception() is not None):
            # Tried again when it failed: a full disk is mended without a restart of the agent.
            self._ready = asyncio.create_task(self._prepare())
        await asyncio.shield(self._ready)
        if spec.id in self._instances:
            return
        instance = ProcessInstance(
            spec,
            folder=self._data_dir / "run" / spec.id,
            instance_log=InstanceLog(
                self._data_dir / "logs" / f"{spec.id}.log",
                self._config.log_max_bytes,
                self._config.log_files,
            ),
            passthrough=self._config.env_passthrough,
            mark=self._mark,
            clock=self._clock,
            rng=self._rng,
            log=self._log,
            report=lambda status: self._report(spec.id, status),
        )
        try:
            instance.start()
        except OSError:
            instance.log.close()
            raise
        self._instances[spec.id] = instance

    async def stop(self, instance_id: str) -> None:
        """Stop it; returns when it is gone."""
        instance = self._instances.get(instance_id)
        if instance is not None:
            await instance.stop()
            self._instances.pop(instance_id, None)

    async def restart(self, instance_id: str, reason: str) -> None:
        """Stop and start it now."""
        instance = self._instances.get(instance_id)
        if instance is not None:
            self._log.info("%s is restarted: %s", instance_id, reason)
            await instance.restart()

    def status(self, instance_id: str) -> RuntimeStatus | None:
        """What is known of it now."""
        instance = self._instances.get(instance_id)
        return instance.status if instance is not None else None

    async def execute(
        self, instance_id: str, command: Sequence[str], timeout: float
    ) -> tuple[int, str]:
        """Run a command in the instance's environment."""
        instance = self._instances.get(instance_id)
        if instance is None:
            raise RuntimeError(f"{instance_id} is not run by this driver")
        return await instance.execute(command, timeout)

    def logs(self, instance_id: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """What it wrote."""
        instance = self._instances.get(instance_id)
        if instance is None:
            raise KeyError(instance_id)
        return instance.log.read(tail, follow=follow)

    async def close(self) -> None:
        """Stop everything, the keeper last."""
        async with asyncio.TaskGroup() as group:
            for instance_id in list(self._instances):
                group.create_task(self.stop(instance_id))
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._keeper is not None:
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            await self._keeper.wait()
            self._keeper = None

    # --- inside ------------------------------------------------------------------------------

    def _report(self, instance_id: str, status: RuntimeStatus) -> None:
        if self._events is not None:
            self._events.status_changed(instance_id, status)

    async def _prepare(self) -> None:
        """Before the first instance: clean up after an earlier life, and start the keeper."""
        self._mark = self._read_mark()
        stopped = await asyncio.to_thread(keeper.stop_marked, self._mark, self._config.orphan_grace)
        if stopped:
            self._log.warning("stopped %d processes that an earlier agent left behind", stopped)
        self._keeper = await self._start_keeper()
        self._watch = asyncio.create_task(self._keep_keeper(), name="process:keeper")

    def _read_mark(self) -> str:
        """The mark of this agent's processes; the same in every life of this data directory."""
        path = self._data_dir / "mark"
        with contextlib.suppress(FileNotFoundError):
            mark = path.read_text().strip()
            if mark:
                return mark
        self._data_dir.mkdir(parents=True, exist_ok=True)
        mark = secrets.token_hex(8)
        path.write_text(mark + "\n")
        return mark

    async def _start_keeper(self) -> asyncio.subprocess.Process:
        arguments = [str(Path(keeper.__file__)), self._mark, f"{self._config.orphan_grace:g}"]
        return await asyncio.create_subprocess_exec(
            _python(),
            "-I",
            "-S",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )

    async def _keep_keeper(self) -> None:
        while self._keeper is not None:
            await self._keeper.wait()
            self._log.warning("the keeper ended; starting another one")
            await self._clock.sleep(1.0)
            self._keeper = await self._start_keeper()


def needs_container(service: Service) -> tuple[str, ...]:
    """The fields in which ``service`` asks for what a process cannot be given.

    Left out in silence, a limit would be none and a network open.
    """
    limits = (service.resources.limit_cpu, service.resources.limit_memory)
    asked = {
        "entrypoint": service.entrypoint is not None,
        "secrets": bool(service.secrets),
        "user": service.user is not None,
        "networks": any(each.name != HOST_NETWORK for each in service.attached_networks),
        "volumes": bool(service.volumes),
        "resource limits": limits != (None, None) or service.resources.limit_pids is not None,
        "security": service.security != Security(),
        "init jobs": bool(service.init),
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


def _python() -> str:
    # The interpreter itself: a virtual environment's would look for its packages first.
    base = getattr(sys, "_base_executable", None) or sys.executable
    return base if os.access(base, os.X_OK) else (shutil.which("python3") or sys.executable)
