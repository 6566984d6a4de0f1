"""What the leader does for leases: it collects renewals, and ends what is not renewed."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import (
    ConsensusError,
    Engine,
    NotLeader,
    Role,
    Unavailable,
    Unknown,
)
from constellation_core.consensus.leases.expiry import ExpiryTimers
from constellation_core.consensus.leases.times import LeaseTimes
from constellation_core.consensus.state import Held, OutdatedError, ReplicatedState
from constellation_core.consensus.state.limits import MAX_LEASES
from constellation_core.consensus.state.operations import Renew, encode
from constellation_core.consensus.state.results import Renewed, decode_result

log = logging.getLogger("constellation.leases")

_ATTEMPT = 2.0
_LONGEST_WAIT = 1.0
"""Seconds; asyncio's timers stand still while a machine sleeps, so none is long."""

_PAUSE = 0.1
"""Seconds between two looks at the leases, however much is written."""


class _Batch:
    """Renewals that are to become one entry."""

    def __init__(self) -> None:
        self.epochs: set[int] = set()
        self.lost: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        # That nobody waits any more for what failed is no defect.
        self.lost.add_done_callback(lambda done: done.cancelled() or done.exception())


class LeaseDuties:
    """Runs on every voter; the one that leads proposes something.

    Args:
        engine: the voter.
        state: what the engine drives.
        clock: this machine's.
        times: of the leases.
    """

    def __init__(
        self, engine: Engine, state: ReplicatedState, clock: BootClock, times: LeaseTimes
    ) -> None:
        self._engine = engine
        self._state = state
        self._clock = clock
        self._times = times
        self._batch: _Batch | None = None
        self._renewals = asyncio.Event()
        self._applied = asyncio.Event()

    async def run(self) -> None:
        """Do it until cancelled."""
        forget = self._engine.on_applied(lambda _: self._applied.set())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._collect())
                tasks.create_task(self._expire())
        finally:
            forget()
            if self._batch is not None:
                _fail(self._batch, Unknown("this voter stops"))
                self._batch = None

    async def renew(self, epochs: tuple[int, ...], timeout: float) -> Renewal:
        """Renew the leases with these epochs together with those that others ask for.

        Raises:
            NotLeader: nothing was done.
            Unavailable: nothing was done.
            Unknown: they may be renewed.
        """
        status = self._engine.status
        if status.role is not Role.LEADER:
            raise NotLeader(status.leader)
        if self._batch is None:
            self._batch = _Batch()
            self._renewals.set()
        batch = self._batch
        if (
            len(batch.epochs) + len(epochs) > MAX_LEASES
            and len(batch.epochs | {*epochs}) > MAX_LEASES
        ):
            raise Unavailable("more renewals than there can be leases")
        batch.epochs.update(epochs)
        try:
            async with asyncio.timeout(timeout):
                lost = await asyncio.shield(batch.lost)
        except TimeoutError:
            raise Unknown("the renewal was not committed in time") from None
        return Renewal(tuple(epoch for epoch in epochs if epoch in lost), self._next_in())

    def _next_in(self) -> float:
        """Seconds to the next beat: holders that ask at the same time share an entry."""
        beat = self._times.interval(self._times.ttl)
        left = beat - self._clock.boottime() % beat
        return left if left > self._times.gather else left + beat

    async def _collect(self) -> None:
        while True:
            await self._renewals.wait()
            await self._clock.sleep(self._times.gather)
            self._renewals.clear()
            batch, self._batch = self._batch, None
            if batch is None:
                continue
            try:
                operation = encode(Renew(tuple(sorted(batch.epochs))))
                answer = await self._engine.propose(operation, timeout=_ATTEMPT)
            except ConsensusError as error:
                _fail(batch, error)
                continue
            except BaseException:
                _fail(batch, Unknown("this voter stops"))
                raise
            result = decode_result(answer)
            if isinstance(result, Renewed):
                batch.lost.set_result(result.lost)
            else:
                _fail(batch, Unknown(f"refused: {result}"))

    async def _expire(self) -> None:
        term: int | None = None
        timers = ExpiryTimers(self._times)
        while True:
            self._applied.clear()
            status = self._engine.status
            try:
                if status.role is not Role.LEADER:
                    # Whoever leads next knows then how long ago each lease was renewed.
                    term = None
                    await self._look(timers)
                elif status.term != term:
                    # What is held is known for certain when an entry of this term is committed.
                    await self._engine.barrier(timeout=_ATTEMPT)
                    if self._engine.status.term == status.term:
                        term = status.term
                    continue
                else:
                    await self._propose_due(timers)
            except (ConsensusError, OutdatedError) as error:
                log.debug("leases are not looked after at the moment: %s", error)
                await self._clock.sleep(_LONGEST_WAIT)
            await self._wait(timers if term is not None else None)

    async def _look(self, timers: ExpiryTimers) -> tuple[tuple[Held, ...], float]:
        """The leases that are held, and when that was."""
        held = await self._engine.read(self._state.leases)
        # After the reading, so that the leader rather waits too long than not long enough.
        now = self._clock.boottime()
        timers.observe(held, now)
        return held, now

    async def _propose_due(self, timers: ExpiryTimers) -> None:
        held, now = await self._look(timers)
        names = {each.epoch: each for each in held}
        for expire in timers.due(now):
            await self._engine.propose(encode(expire), timeout=_ATTEMPT)
            lease = names[expire.epoch]
            log.warning("lease %s of %s was not renewed in time", lease.name, lease.holder)

    async def _wait(self, timers: ExpiryTimers | None) -> None:
        due = timers.next_due() if timers is not None else None
        left = _LONGEST_WAIT if due is None else due - self._clock.boottime()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(left, 0.0), _LONGEST_WAIT)):
                await self._applied.wait()
        await self._clock.sleep(_PAUSE)


def _fail(batch: _Batch, error: ConsensusError) -> None:
    if not batch.lost.done():
        batch.lost.set_exception(error)
