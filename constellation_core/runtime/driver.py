"""The interface between the core and a runtime driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable

from constellation_core.model.service import Service


class Phase(StrEnum):
    """Where an instance is in its life, as its driver sees it."""

    PENDING = "pending"
    RUNNING = "running"
    BACKOFF = "backoff"
    """It exited and waits for its restart."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Stopped as told, or exited and its policy says to leave it."""


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What a driver needs to run one instance.

    Attributes:
        id: the instance's id, also the name by which a driver finds it again after the agent
            was restarted.
        service: the definition.
        node: the name of this node.
        address: the IP literal on which its ports are reached by others.
    """

    id: str
    service: Service
    node: str
    address: str


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """What a driver knows of an instance.

    Attributes:
        phase: where it is in its life.
        ports: port name to real number; empty before the first start.
        pid: the main process's id, where there is one.
        started_at: the driver's clock (monotonic seconds) at the last start, else ``None``.
        restarts: how often it was started again, for whatever reason.
        crash_looping: it was restarted too often without a calm run in between.
        detail: a few words: ``exit status 1``, ``killed by SIGKILL`` ...
        driver_health: the driver's own verdict, for checks of kind ``driver``.
    """

    phase: Phase
    ports: Mapping[str, int] = field(default_factory=dict)
    pid: int | None = None
    started_at: float | None = None
    restarts: int = 0
    crash_looping: bool = False
    detail: str = ""
    driver_health: bool = True


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that an instance wrote.

    Attributes:
        at: wall-clock seconds since 1970, when the driver read it.
        stream: where it was written to.
        text: without the line's end; bytes that are not UTF-8 are replaced.
    """

    at: float
    stream: Literal["stdout", "stderr"]
    text: str


class DriverEvents(Protocol):
    """How a driver tells the core of a change. Called on the event loop; never blocks."""

    def status_changed(self, instance_id: str, status: RuntimeStatus) -> None:
        """The instance's status is now ``status``."""


@runtime_checkable
class RuntimeDriver(Protocol):
    """Starts, stops and restarts instances, and keeps them running by their restart policy.

    All methods are called on the event loop, and for one instance never two at a time.
    """

    @property
    def name(self) -> str:
        """How definitions and tables speak of it: ``process``, ``docker`` ..."""

    def accepts(self, service: Service) -> str | None:
        """``None`` when it can run ``service``, else why not, in words for the operator."""

    def attach(self, events: DriverEvents) -> None:
        """Take the sink for status changes; called once, before any other method."""

    async def start(self, spec: InstanceSpec) -> None:
        """Run the instance, or take over one with this id that still runs from before.

        Returns once it is being run; failures to start are reported as a status and retried by
        the restart policy.

        Raises:
            RuntimeError: when it can never run (its program does not exist ...).
        """

    async def stop(self, instance_id: str) -> None:
        """Stop it with its signal and grace period; returns when it is gone. Unknown ids: no-op."""

    async def restart(self, instance_id: str, reason: str) -> None:
        """Stop and start it now, whatever backoff it is in; counted in ``restarts``."""

    def status(self, instance_id: str) -> RuntimeStatus | None:
        """What is known of it now; ``None`` for an unknown id."""

    async def execute(
        self, instance_id: str, command: Sequence[str], timeout: float
    ) -> tuple[int, str]:
        """Run ``command`` in the instance's environment; its exit status and last output.

        Raises:
            TimeoutError: after ``timeout`` seconds; what was started is killed.
            RuntimeError: when the instance is not running or the command cannot be started.
        """

    def logs(self, instance_id: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        """The last ``tail`` lines, oldest first, then with ``follow`` what comes."""

    async def close(self) -> None:
        """The agent stops: stop all that runs and let go of everything."""
