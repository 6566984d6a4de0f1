"""An agent's leases: what plugins hold and follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import msgpack

from constellation_core.consensus.access import Access
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, Unavailable
from constellation_core.consensus.leases.hold import Hold
from constellation_core.consensus.leases.lease import Tenure
from constellation_core.consensus.leases.times import LeaseTimes
from constellation_core.consensus.leases.watchdog import Watchdog
from constellation_core.consensus.requests import Backoff, Requests
from constellation_core.consensus.state import Entry, Query, Space
from constellation_core.consensus.state.entries import key_fits
from constellation_core.consensus.state.limits import MAX_KEY, MAX_TTL
from constellation_core.consensus.state.operations import Acquire, Release
from constellation_core.consensus.state.results import Granted, HeldByOther, Result
from constellation_core.consensus.watching import follow

log = logging.getLogger("constellation.leases")

T = TypeVar("T")

_ATTEMPTS = 10.0
_RELEASE = 2.0
_ROUND_TRIP = 2.0
_WAIT = 10.0
_CLOSE = 5.0


@dataclass(frozen=True, slots=True)
class LeaseView:
    """Who holds a lease, as some voter knows it: for display and for followers.

    Attributes:
        holder: the agent's name, a slash, and what tells its starts apart.
        epoch: with which it is held.
        ttl: seconds.
    """

    holder: str
    epoch: int
    ttl: float

    @property
    def node(self) -> str:
        """The holding agent's name."""
        return self.holder.rpartition("/")[0]


def holder_id(node: str, random: Random) -> str:
    """What tells this start of the agent from all others, and the agent from the others.

    Args:
        node: the agent's name.
        random: must not repeat itself after a restart (``random.SystemRandom``).
    """
    return f"{node}/{random.getrandbits(64):016x}"


class Leases:
    """Holds leases for one agent. To be used in one event loop.

    Args:
        access: the way to the voters.
        requests: this agent's.
        clock: this machine's boot-time clock.
        random: chance in waits.
        watchdog: calls when trust in a lease ends.
        holder: from :func:`holder_id`, another one after each start.
        times: the same on all agents.
    """

    def __init__(
        self,
        access: Access,
        requests: Requests,
        clock: BootClock,
        random: Random,
        watchdog: Watchdog,
        *,
        holder: str,
        times: LeaseTimes | None = None,
    ) -> None:
        self._access = access
        self._requests = requests
        self._clock = clock
        self._random = random
        self._watchdog = watchdog
        self._holder = holder
        self._times = times or LeaseTimes()
        self._closing = False
        self._locks: dict[str, asyncio.Lock] = {}
        self._undoing: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._holds: set[Hold] = set()
        self._nothing_held = asyncio.Event()
        self._nothing_held.set()

    def hold(
        self,
        name: str,
        *,
        ttl: float | None = None,
        wait_out: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> Hold:
        """A block that runs while this agent, and in it this block alone, holds the lease.

        ::

            async with leases.hold("dns-writer") as lease:
                while True:
                    plan = await compare(wanted, actual)
                    lease.check()
                    await provider.write(plan, fence=lease.epoch)

        Entering waits until the lease is free, for ever if need be. When the lease is lost, the
        block is cancelled at its current ``await`` and raises :class:`~.lease.LeaseLost`. A
        failure of the body releases the lease as its normal end does.

        Args:
            name: 1 to 256 bytes.
            ttl: seconds after which it passes on when this machine dies; at least six times
                ``gather``, at most an hour.
            wait_out: for what cannot refuse an old epoch. Unless the holder before released the
                lease, wait a ttl before the body begins: a holder that was paused shortly is
                then past its last write. No promise, but all that time alone can do.
            on_lost: called once when the lease is lost, on the watchdog's thread or in the event
                loop: for what the block runs outside of it, as a child process to be killed.

        Raises:
            ValueError: for a name or a ttl that cannot be.
        """
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

    async def watch(self, name: str) -> AsyncIterator[LeaseView | None]:
        """Who holds the lease, now and after each change; ``None`` while nobody does.

        It never ends and never fails, but it may lag behind: nothing that only the holder may do
        is to be decided by it.
        """
        query = Query(Space.LEASES, name, exact=True)
        async for changes in follow(self._access, self._clock, self._random, query):
            yield _view(changes.entries[0]) if changes.entries else None

    async def watch_all(self) -> AsyncIterator[Mapping[str, LeaseView]]:
        """Who holds which lease, by the leases' names, now and after each change.

        As :meth:`watch`, for all of them.
        """
        held: dict[str, LeaseView] = {}
        query = Query(Space.LEASES, "", exact=False)
        async for changes in follow(self._access, self._clock, self._random, query):
            for name in changes.gone:
                held.pop(name, None)
            held.update({entry.key: _view(entry) for entry in changes.entries})
            yield dict(held)

    async def close(self) -> None:
        """End all blocks and release what they held; what does not end in time expires."""
        self._closing = True
        for hold in list(self._holds):
            hold.lose("the agent stops")
        try:
            async with asyncio.timeout(_CLOSE):
                await self._nothing_held.wait()
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
        self._nothing_held.clear()

    def left(self, hold: Hold) -> None:
        """A block ended."""
        self._holds.discard(hold)
        if not self._holds:
            self._nothing_held.set()

    async def acquire(self, name: str, ttl: float, *, wait_out: bool) -> Tenure:
        """Wait until this agent holds the lease, and no other block of it does.

        Raises:
            Unavailable: the agent stops.
            ValueError: the voters refuse it for good.
        """
        lock = self._locks.setdefault(name, asyncio.Lock())
        await lock.acquire()
        try:
            if (undoing := self._undoing.get(name)) is not None:
                await asyncio.wait([undoing])
            while True:
                tenure, clean = await self._granted(name, ttl)
                if clean or not wait_out or await self._waited_out(tenure, ttl):
                    return tenure
        except BaseException:
            lock.release()
            raise

    async def keep(self, tenure: Tenure, ttl: float) -> None:
        """Renew it; returns when it is over."""
        interval = self._times.interval(ttl)
        backoff = Backoff(self._clock, self._random)
        wait = interval
        while (left := tenure.left()) > 0:
            await self._clock.sleep(min(wait, left))
            before = self._clock.boottime()
            try:
                renewal = await self._access.renew(
                    (tenure.epoch,), timeout=self._times.gather + min(_ROUND_TRIP, ttl / 6)
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

    async def _granted(self, name: str, ttl: float) -> tuple[Tenure, bool]:
        backoff = Backoff(self._clock, self._random)
        while not self._closing:
            before = self._clock.boottime()
            asking = self._spawn(self._ask(name, ttl))
            try:
                result = await asyncio.shield(asking)
            except asyncio.CancelledError:
                # It may be granted all the same, and then nobody would hold it in earnest.
                self._undoing[name] = self._spawn(self._undo(asking, name))
                raise
            except ConsensusError as error:
                log.warning("lease %s cannot be asked for: %s", name, error)
                await backoff.wait()
                continue
            match result:
                case Granted(epoch, clean):
                    deadline = before + self._times.trusted(ttl)
                    tenure = Tenure(name, epoch, deadline, self._clock.boottime)
                    if tenure.left() > 0:
                        return tenure, clean
                    await self._release(name, epoch)
                case HeldByOther(_, _, revision):
                    await self._until_free(name, revision)
                case _:
                    raise ValueError(f"lease {name} is refused: {result}")
        raise Unavailable("the agent stops")

    async def _ask(self, name: str, ttl: float) -> Result:
        asked = Acquire(name, self._holder, round(ttl * 1000))
        return await self._requests.submit(asked, timeout=_ATTEMPTS)

    async def _undo(self, asking: asyncio.Task[Result], name: str) -> None:
        await asyncio.wait([asking])
        if not asking.cancelled() and asking.exception() is None:
            result = asking.result()
            if isinstance(result, Granted):
                await self._release(name, result.epoch)

    async def _release(self, name: str, epoch: int) -> None:
        try:
            await self._requests.submit(Release(epoch), timeout=_RELEASE)
        except ConsensusError as error:
            log.warning("lease %s could not be released and will expire: %s", name, error)

    async def _waited_out(self, tenure: Tenure, ttl: float) -> bool:
        """Hold it for a ttl without using it; whether it is still held then."""
        keeper = self._spawn(self.keep(tenure, ttl))
        try:
            await self._clock.sleep(ttl)
        except BaseException:
            self._spawn(self._release(tenure.name, tenure.epoch))
            raise
        finally:
            keeper.cancel()
        return tenure.left() > 0

    async def _until_free(self, name: str, revision: int) -> None:
        """Return when nobody holds the lease at some revision after this one."""
        backoff = Backoff(self._clock, self._random)
        while not self._closing:
            query = Query(Space.LEASES, name, exact=True, after=revision)
            try:
                answer = await self._access.query(
                    query, linearizable=False, wait=_WAIT, timeout=_ROUND_TRIP
                )
            except ConsensusError:
                await backoff.wait()
                continue
            if answer.revision < revision:
                await backoff.wait()
                continue
            if not answer.entries and (answer.gone or answer.complete):
                return
            revision = answer.revision

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _view(entry: Entry) -> LeaseView:
    holder, epoch, ttl = msgpack.unpackb(entry.value)
    return LeaseView(holder, epoch, ttl / 1000)
