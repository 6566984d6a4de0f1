"""The blocks of one agent that hold leases or wait for them, whoever gives the leases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, Unavailable
from constellation_core.consensus.leases.grants import Grants
from constellation_core.consensus.leases.hold import Hold
from constellation_core.consensus.leases.lease import Tenure
from constellation_core.consensus.leases.times import LeaseTimes
from constellation_core.consensus.leases.watchdog import Watchdog
from constellation_core.consensus.requests import Backoff
from constellation_core.consensus.state.entries import key_fits
from constellation_core.consensus.state.limits import MAX_KEY, MAX_TTL
from constellation_core.consensus.state.results import Granted, HeldByOther

log = logging.getLogger("constellation.leases")

T = TypeVar("T")

_ATTEMPTS = 10.0
_RELEASE = 2.0
_ROUND_TRIP = 2.0
_CLOSE = 5.0


class Blocks:
    """Makes blocks, and is their :class:`~.hold.Holder`. To be used in one event loop.

    Args:
        grants: who gives the leases.
        clock: this machine's boot-time clock.
        random: chance in waits.
        watchdog: calls when trust in a lease ends.
        times: the same on all agents.
    """

    def __init__(
        self,
        grants: Grants,
        clock: BootClock,
        random: Random,
        watchdog: Watchdog,
        times: LeaseTimes,
    ) -> None:
        self._grants = grants
        self._clock = clock
        self._random = random
        self._watchdog = watchdog
        self._times = times
        self._closing = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}
        self._undoing: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._holds: set[Hold] = set()
        self._entering = 0
        self._changed = asyncio.Event()

    def hold(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> Hold:
        """As :meth:`~.manager.Leases.hold`."""
        seconds = self._times.ttl if ttl is None else ttl
        if not key_fits(name):
            raise ValueError(f"a lease's name has 1 to {MAX_KEY} bytes")
        least = max(1.0, 6 * self._times.gather)
        if not least <= seconds <= MAX_TTL / 1000:
            raise ValueError(f"a ttl has {least:g} to {MAX_TTL / 1000:g} seconds")
        return Hold(
            self,
            self._clock,
            self._watchdog,
            name,
            ttl=seconds,
            wait_out=wait_out,
            on_lost=on_lost,
        )

    async def close(self) -> None:
        """End all blocks and release what they held; what does not end in time expires."""
        self._closing.set()
        for hold in list(self._holds):
            hold.lose("the agent stops")
        try:
            async with asyncio.timeout(_CLOSE):
                # Who is about to enter is turned back, and may have to give back what it got.
                while self._holds or self._entering:
                    self._changed.clear()
                    await self._changed.wait()
                if self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            log.error("some leases could not be released and will expire")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # What a block needs (.hold.Holder).

    def entered(self, hold: Hold) -> None:
        """A block began."""
        self._holds.add(hold)

    def left(self, hold: Hold) -> None:
        """A block ended."""
        self._holds.discard(hold)
        self._changed.set()

    async def acquire(self, name: str, ttl: float, *, wait_out: bool) -> Tenure:
        """Wait until this agent holds the lease, and no other block of it does.

        Raises:
            Unavailable: the agent stops.
            ValueError: the voters refuse it for good.
            RuntimeError: this task holds it already, and would wait for itself.
        """
        task = asyncio.current_task()
        if any(hold.holds(name, task) for hold in self._holds):
            raise RuntimeError(f"this task holds lease {name} already: it would wait for itself")
        self._entering += 1
        try:
            return await self._acquire(name, ttl, wait_out)
        finally:
            self._entering -= 1
            self._changed.set()

    async def keep(self, tenure: Tenure, ttl: float) -> None:
        """Renew it; returns when it is over."""
        interval = self._times.interval(ttl)
        backoff = Backoff(self._clock, self._random)
        # A grant that was long in coming is as old as the request for it.
        wait = max(0.0, tenure.left() - (self._times.trusted(ttl) - interval))
        while (left := tenure.left()) > 0:
            await self._clock.sleep(min(wait, left))
            before = self._clock.boottime()
            try:
                renewal = await self._grants.renew(
                    tenure.name, tenure.epoch, ttl, timeout=min(_ROUND_TRIP, ttl / 6)
                )
            except ConsensusError as error:
                log.debug("lease %s was not renewed: %s", tenure.name, error)
                await backoff.wait()
                wait = 0.0
                continue
            if tenure.epoch in renewal.lost:
                tenure.end("the voters ended it")
                return
            tenure.extend(before + self._times.trusted(ttl))
            backoff = Backoff(self._clock, self._random)
            wait = min(interval, renewal.next_in)

    async def release(self, tenure: Tenure) -> None:
        """The block is over. Fails never, and takes a few seconds at most."""
        self._locks[tenure.name].release()
        await asyncio.shield(self._spawn(self._release(tenure.name, tenure.epoch)))

    async def _acquire(self, name: str, ttl: float, wait_out: bool) -> Tenure:
        lock = self._locks.setdefault(name, asyncio.Lock())
        await lock.acquire()
        try:
            if (undoing := self._undoing.get(name)) is not None:
                await asyncio.wait([undoing])
            while True:
                tenure, safe = await self._granted(name, ttl, wait_out=wait_out)
                if safe or await self._waited_out(tenure, ttl):
                    return tenure
        except BaseException:
            lock.release()
            raise

    async def _granted(self, name: str, ttl: float, *, wait_out: bool) -> tuple[Tenure, bool]:
        """The lease; and whether the block may begin at once."""
        backoff = Backoff(self._clock, self._random)
        while not self._closing.is_set():
            before = self._clock.boottime()
            asking = self._spawn(self._grants.ask(name, ttl, timeout=_ATTEMPTS))
            try:
                result = await asyncio.shield(asking)
            except asyncio.CancelledError:
                # It may be granted all the same, and then nobody would hold it in earnest.
                self._undoing[name] = self._spawn(self._undo(asking, name, wait_out))
                raise
            except ConsensusError as error:
                log.warning("lease %s cannot be asked for: %s", name, error)
                await backoff.wait()
                continue
            match result:
                case Granted(epoch, clean):
                    deadline = before + self._times.trusted(ttl)
                    tenure = Tenure(name, epoch, deadline, self._clock.boottime)
                    if tenure.left() > 0 and not self._closing.is_set():
                        return tenure, clean or not wait_out
                    await self._give_back(name, result, wait_out)
                case HeldByOther(_, _, revision):
                    await self._unless_closing(self._grants.until_free(name, revision))
        raise Unavailable("the agent stops")

    async def _undo(
        self, asking: asyncio.Task[Granted | HeldByOther], name: str, wait_out: bool
    ) -> None:
        await asyncio.wait([asking])
        if not asking.cancelled() and asking.exception() is None:
            result = asking.result()
            if isinstance(result, Granted):
                await self._give_back(name, result, wait_out)

    async def _give_back(self, name: str, granted: Granted, wait_out: bool) -> None:
        """Let go of what no block was entered with."""
        # A release would say that all is clean, also of the holder before, who has still to be
        # waited out; so that the next one does, it has to expire.
        if granted.clean or not wait_out:
            await self._release(name, granted.epoch)

    async def _release(self, name: str, epoch: int) -> None:
        try:
            await self._grants.release(name, epoch, timeout=_RELEASE)
        except ConsensusError as error:
            log.warning("lease %s could not be released and will expire: %s", name, error)

    async def _waited_out(self, tenure: Tenure, ttl: float) -> bool:
        """Hold it for a ttl without using it; whether it is still held then.

        If this is cancelled, or the agent stops, it is left to expire: see :meth:`_give_back`.
        """
        keeper = self._spawn(self.keep(tenure, ttl))
        try:
            await self._unless_closing(self._clock.sleep(ttl))
        finally:
            keeper.cancel()
        return tenure.left() > 0 and not self._closing.is_set()

    async def _unless_closing(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait until ``work`` is done, or the agent stops."""
        waiting = self._spawn(work)
        closing = self._spawn(self._closing.wait())
        try:
            await asyncio.wait([waiting, closing], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            closing.cancel()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
