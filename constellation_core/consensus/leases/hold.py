"""The block that runs while a lease is held, and not a moment longer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.leases.lease import Lease, LeaseLost, Tenure
from constellation_core.consensus.leases.watchdog import Watchdog

log = logging.getLogger("constellation.leases")

OVERRUN = 1.0
"""Seconds; a block that goes on for longer after its lease was lost is named in the log."""


class Holder(Protocol):
    """What a block needs of the agent's leases."""

    async def acquire(self, name: str, ttl: float, *, wait_out: bool) -> Tenure:
        """Wait until this agent holds the lease, and no other block of it does."""
        ...

    async def keep(self, tenure: Tenure, ttl: float) -> None:
        """Renew it; returns when it is over."""
        ...

    async def release(self, tenure: Tenure) -> None:
        """The block is over. Fails never, and takes a few seconds at most."""
        ...

    def entered(self, hold: Hold) -> None:
        """A block began."""
        ...

    def left(self, hold: Hold) -> None:
        """A block ended."""
        ...


class Hold:
    """``async with`` waits for the lease and gives it. To be used once.

    The block's task is cancelled at once when the lease is lost, and the block then raises
    :class:`~.lease.LeaseLost`; also when the body came to its end without noticing. The lease is
    released only after the body has ended.

    Args:
        holder: the agent's leases.
        clock: this machine's.
        watchdog: calls when trust in the lease ends.
        name: the lease.
        ttl: seconds.
        wait_out: see :meth:`~.manager.Leases.hold`.
        on_lost: see :meth:`~.manager.Leases.hold`.
    """

    def __init__(
        self,
        holder: Holder,
        clock: BootClock,
        watchdog: Watchdog,
        name: str,
        *,
        ttl: float,
        wait_out: bool,
        on_lost: Callable[[], None] | None,
    ) -> None:
        self._holder = holder
        self._clock = clock
        self._watchdog = watchdog
        self._name = name
        self._ttl = ttl
        self._wait_out = wait_out
        self._on_lost = on_lost
        self._used = False
        self._inside = False
        self._cancelled_at: float | None = None

    async def __aenter__(self) -> Lease:
        task = asyncio.current_task()
        if self._used or task is None:
            raise RuntimeError("a lease is held once, and within a task: make another hold()")
        self._used = True
        self._tenure = await self._holder.acquire(self._name, self._ttl, wait_out=self._wait_out)
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._inside = True
        self._holder.entered(self)
        self._call_off = self._watchdog.guard(self._tenure, self._over)
        self._keeper = asyncio.create_task(self._keep(), name=f"lease {self._name}")
        return Lease(self._tenure)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if asyncio.current_task() is not self._task:
            raise RuntimeError("a lease is let go by the task that took it")
        self._inside = False
        self._call_off()
        self._keeper.cancel()
        reason = self._tenure.reason()
        self._tenure.end("its block is over")
        self._report_overrun()
        by_others = self._cancelled_by_others(kind)
        try:
            await self._holder.release(self._tenure)
        finally:
            self._holder.left(self)
        if reason is None or by_others:
            return
        if kind is None or (kind is asyncio.CancelledError and self._cancelled_at is not None):
            raise LeaseLost(self._name, self._tenure.epoch, reason) from error

    def holds(self, name: str, task: asyncio.Task[Any] | None) -> bool:
        """Whether it is that task's block, of that lease, and runs."""
        return self._inside and self._name == name and self._task is task

    def lose(self, reason: str) -> None:
        """End it before its time. In the event loop."""
        self._tenure.end(reason)
        if self._call_off():
            self._over()

    def _cancelled_by_others(self, kind: type[BaseException] | None) -> bool:
        if self._cancelled_at is None:
            return kind is asyncio.CancelledError
        return self._task.uncancel() > self._cancelling

    def _report_overrun(self) -> None:
        if self._cancelled_at is None:
            return
        overrun = self._clock.boottime() - self._cancelled_at
        if overrun > OVERRUN:
            log.error(
                "the block of lease %s went on for %.1f s after it was lost", self._name, overrun
            )

    async def _keep(self) -> None:
        await self._holder.keep(self._tenure, self._ttl)
        if self._call_off():
            self._over()

    def _over(self) -> None:
        """The lease is lost; called once, on any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop may be closed by now
            self._loop.call_soon_threadsafe(self._cancel)
        if self._on_lost is None:
            return
        try:
            self._on_lost()
        except BaseException:  # whatever it raises, the watchdog goes on
            log.exception("what was to be done about the loss of lease %s failed", self._name)

    def _cancel(self) -> None:
        # A callback of the loop: the task is suspended, so the body gets it before its end.
        if self._inside:
            self._cancelled_at = self._clock.boottime()
            self._task.cancel(f"lease {self._name} is lost")
