"""One supervised process: started, watched, stopped, and started again by its policy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from constellation_core.backoff import RestartBackoff
from constellation_core.plugins.context import Clock
from constellation_core.runtime import InstanceSpec, Phase, RuntimeStatus
from constellation_plugin_process import keeper
from constellation_plugin_process.child import start_child
from constellation_plugin_process.environment import (
    command_of,
    environment_of,
    fill_in,
    provided_variables,
)
from constellation_plugin_process.logs import InstanceLog, LineSplitter, Stream
from constellation_plugin_process.ports import PortInUseError, allocate

_READ = 16_384
"""Bytes at once: so much work that the rest of the agent can wait for it."""
_DRAIN = 2.0
"""Seconds to wait for the last output of a process that has ended."""


class ProcessInstance:
    """The process of one instance, over all its restarts.

    Args:
        spec: what to run.
        folder: the instance's own directory, its working directory by default.
        instance_log: where its output goes.
        passthrough: names of variables inherited from the agent.
        mark: of the agent; lets the keeper find what it runs.
        clock: time.
        rng: jitter of the restarts.
        log: the plugin's logger.
        report: told of every change of status.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        *,
        folder: Path,
        instance_log: InstanceLog,
        passthrough: Sequence[str],
        mark: str,
        clock: Clock,
        rng: Random,
        log: logging.Logger,
        report: Callable[[RuntimeStatus], None],
    ) -> None:
        self.log = instance_log
        self._spec = spec
        self._folder = folder
        self._passthrough = passthrough
        self._mark = mark
        self._clock = clock
        self._log = log
        self._report = report
        self._backoff = RestartBackoff(spec.service.restart, rng)
        self._status = RuntimeStatus(Phase.PENDING)
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._restart_now = asyncio.Event()
        self._stopping = False

    @property
    def status(self) -> RuntimeStatus:
        """What is known of it now."""
        return self._status

    def start(self) -> None:
        """Begin to run it, in the background."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._task = asyncio.create_task(self._supervise(), name=f"process:{self._spec.id}")

    async def stop(self) -> None:
        """End it, politely first; returns when it is gone."""
        self._stopping = True
        self._restart_now.set()
        await self._end_process()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._set(phase=Phase.STOPPED, pid=None, detail="stopped")
        self.log.close()

    async def restart(self) -> None:
        """End it and start it at once, whatever it is waiting for."""
        self._restart_now.set()
        await self._end_process()

    async def execute(self, command: Sequence[str], timeout: float) -> tuple[int, str]:
        """Run ``command`` in the instance's environment; see the driver's interface."""
        if self._status.phase is not Phase.RUNNING:
            raise RuntimeError(f"{self._spec.id} is not running")
        variables, environment = self._environment(self._status.ports)
        try:
            child = await start_child(
                [fill_in(word, variables) for word in command],
                cwd=self._workdir(variables),
                env=environment,
                merged=True,
            )
        except OSError as error:
            raise RuntimeError(f"cannot run {command[0]!r}: {error.strerror}") from error
        try:
            async with asyncio.timeout(timeout):
                output = asyncio.create_task(_last_output(child.outputs[0]))
                code = await child.process.wait()
                # What it has left behind may hold the pipe, and has no say.
                await asyncio.wait((output,), timeout=_DRAIN)
                child.close()
                return code, await output
        finally:
            _kill_group(child.pid, signal.SIGKILL)
            child.close()
            await child.process.wait()

    # --- inside ------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            self._restart_now.clear()
            if self._is_stopping():
                return
            try:
                detail, ran, clean = await self._run_once()
            except Exception as error:  # noqa: BLE001 - see below
                # Whatever it was: an instance that nobody supervises would be the worse end.
                self._log.exception("running %s failed", self._spec.id)
                detail, ran, clean = f"the driver failed: {error}", 0.0, False
            if self._is_stopping():
                return
            self._backoff.after_run(ran)
            asked = self._restart_now.is_set()
            policy = self._spec.service.restart.policy
            if not asked and (policy == "never" or (policy == "on-failure" and clean)):
                self._set(phase=Phase.STOPPED, pid=None, detail=detail)
                await self._restart_now.wait()
                asked = True
            elif not asked:
                await self._wait_for_restart(detail)
            if not self._is_stopping():
                self._set(restarts=self._status.restarts + 1)

    def _is_stopping(self) -> bool:
        return self._stopping

    async def _wait_for_restart(self, detail: str) -> None:
        wait = self._backoff.next_wait()
        self._set(
            phase=Phase.BACKOFF,
            pid=None,
            detail=f"{detail}; started again in {wait:.1f} s",
            crash_looping=self._backoff.crash_looping,
        )
        self._log.warning("%s: %s; started again in %.1f s", self._spec.id, detail, wait)
        sleep = asyncio.create_task(self._clock.sleep(wait))
        asked = asyncio.create_task(self._restart_now.wait())
        await asyncio.wait((sleep, asked), return_when=asyncio.FIRST_COMPLETED)
        for task in (sleep, asked):
            task.cancel()

    async def _run_once(self) -> tuple[str, float, bool]:
        """Run the process to its end: what happened, seconds that it ran, whether it was well."""
        try:
            ports = allocate(self._spec.service.ports, self._spec.address, self._status.ports)
        except (PortInUseError, OSError) as error:
            return str(error), 0.0, False
        variables, environment = self._environment(ports)
        command = command_of(self._spec, variables)
        try:
            child = await start_child(command, cwd=self._workdir(variables), env=environment)
        except (OSError, ValueError) as error:
            self._set(ports=ports)
            return _cannot_start(command[0], self._workdir(variables), error), 0.0, False
        process = self._process = child.process
        began = self._clock.monotonic()
        self._set(phase=Phase.RUNNING, pid=process.pid, started_at=began, ports=ports, detail="")
        self._log.info("%s runs as process %d", self._spec.id, process.pid)
        calm = asyncio.create_task(self._calm_down())
        readers = [
            asyncio.create_task(self._copy(child.outputs[0], "stdout")),
            asyncio.create_task(self._copy(child.outputs[1], "stderr")),
        ]
        try:
            if self._stopping or self._restart_now.is_set():
                # Asked while it was being started: nobody has signalled this process yet.
                await self._end_process()
            code = await process.wait()
        finally:
            calm.cancel()
            self._process = None
            # What it started belongs to it, and must not outlive it: neither in its group, nor
            # as a daemon with a session of its own, which would keep its ports and its files.
            _kill_group(process.pid, signal.SIGKILL)
            await asyncio.to_thread(keeper.kill_instance, self._mark, self._spec.id)
            await asyncio.wait(readers, timeout=_DRAIN)
            for reader in readers:
                reader.cancel()
            child.close()
        return _describe_exit(code), self._clock.monotonic() - began, code == 0

    async def _calm_down(self) -> None:
        await self._clock.sleep(self._spec.service.restart.reset_after)
        self._backoff.after_run(self._spec.service.restart.reset_after)
        self._set(crash_looping=False)

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._set(phase=Phase.STOPPING)
        service = self._spec.service
        _kill_group(process.pid, signal.Signals[service.stop_signal or "SIGTERM"])
        try:
            async with asyncio.timeout(service.stop_grace):
                await process.wait()
        except TimeoutError:
            self._log.warning(
                "%s did not stop within %g s; killing it", self._spec.id, service.stop_grace
            )
            _kill_group(process.pid, signal.SIGKILL)
            await process.wait()

    async def _copy(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        splitter = LineSplitter()
        while data := await reader.read(_READ):
            self.log.write(self._clock.time(), stream, list(splitter.feed(data)))
            # A reader whose buffer is never empty would otherwise never let others run.
            await asyncio.sleep(0)
        self.log.write(self._clock.time(), stream, list(splitter.end()))

    def _environment(self, ports: Mapping[str, int]) -> tuple[dict[str, str], dict[str, str]]:
        variables = provided_variables(self._spec, ports)
        marker = {keeper.VARIABLE: self._mark, keeper.INSTANCE: self._spec.id}
        return variables, environment_of(self._spec, variables, self._passthrough, marker)

    def _workdir(self, variables: Mapping[str, str]) -> Path:
        workdir = self._spec.service.workdir
        return Path(fill_in(workdir, variables)) if workdir is not None else self._folder

    def _set(self, **changes: object) -> None:
        status = replace(self._status, **changes)  # type: ignore[arg-type]
        if status != self._status:
            self._status = status
            self._report(status)


def _cannot_start(program: str, workdir: Path, error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return f"cannot start {program!r}: {error}"
    if not workdir.is_dir():
        return f"cannot start {program!r}: there is no folder {workdir} (workdir)"
    return f"cannot start {program!r}: {error.strerror}"


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _kill_group(pid: int, number: signal.Signals) -> None:
    # The process leads a session of its own, so its id is its group's. The group keeps the id
    # from being given away as long as anybody is in it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def _last_output(reader: asyncio.StreamReader, most: int = 4_096) -> str:
    output = b""
    while data := await reader.read(_READ):
        output = (output + data)[-most:]
    return output.decode(errors="replace").strip()
