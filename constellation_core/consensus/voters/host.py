"""Runs this agent's engine, and with it what a voter does for leases and for the other voters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from constellation_core.consensus.access import LocalAccess
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, Role
from constellation_core.consensus.leases import LeaseDuties, LeaseTimes
from constellation_core.consensus.state import ReplicatedState
from constellation_core.consensus.voters.asking import wait_until
from constellation_core.consensus.voters.network import Engines
from constellation_core.consensus.voters.pilot import Pilot
from constellation_core.consensus.voters.status import RunningVoter

log = logging.getLogger("constellation.consensus")

_HAND_OVER = 1.0
"""Seconds to wait at most for another leader, before this one stops."""


class Host:
    """Starts and stops the engine; one at a time.

    Args:
        directory: the engine's.
        engines: make it.
        pilot: makes what looks after the voters.
        clock: this machine's.
        lease_times: of the leases.
    """

    def __init__(
        self,
        directory: Path,
        engines: Engines,
        pilot: Callable[[RunningVoter], Pilot],
        clock: BootClock,
        lease_times: LeaseTimes,
    ) -> None:
        self._directory = directory
        self._engines = engines
        self._pilot = pilot
        self._clock = clock
        self._lease_times = lease_times
        self._running: RunningVoter | None = None
        self._attending: asyncio.Task[None] | None = None
        self.pilot: Pilot | None = None
        self.failure: str | None = None

    @property
    def running(self) -> RunningVoter | None:
        """The voter, while its engine takes part."""
        return self._running

    async def start(self) -> None:
        """Start the engine, if it does not run. What goes wrong is in ``failure``."""
        if self._running is not None:
            return
        state = ReplicatedState()
        engine = self._engines.open(self._directory, state)
        try:
            await engine.start()
        except (ConsensusError, OSError, ImportError) as error:
            self._failed(str(error) or type(error).__name__)
            return
        except BaseException:
            await engine.stop()
            raise
        duties = LeaseDuties(engine, state, self._clock, self._lease_times)
        running = RunningVoter(engine, state, LocalAccess(engine, state, duties.renew))
        self.failure = None
        self._running = running
        self.pilot = self._pilot(running)
        self._attending = asyncio.create_task(self._attend(duties, self.pilot), name="voter")

    async def check(self) -> None:
        """Stop what has failed; ``failure`` says why."""
        running, attending = self._running, self._attending
        if running is None or attending is None:
            return
        if running.status.role in (Role.FAILED, Role.STOPPED):
            reason = running.status.failure or "the engine has stopped"
        elif attending.done():
            reason = "a task of the voter has failed; the log says more"
        else:
            return
        await self.stop()
        self._failed(reason)

    async def stop(self) -> None:
        """Stop the engine. Idempotent."""
        running, attending = self._running, self._attending
        self._running = self._attending = self.pilot = None
        if attending is not None:
            attending.cancel()
            await asyncio.wait([attending])
        if running is not None:
            await running.engine.stop()

    async def hand_over(self) -> None:
        """Before an orderly end: let another voter lead, if this one does and another can."""
        running = self._running
        if running is None or running.status.role is not Role.LEADER:
            return
        if len(running.status.voters) > 1:
            with contextlib.suppress(ConsensusError):
                await running.engine.transfer_leadership()
                await wait_until(
                    lambda: running.status.role is not Role.LEADER, _HAND_OVER, self._clock
                )

    async def _attend(self, duties: LeaseDuties, pilot: Pilot) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(duties.run(), name="leases")
                tasks.create_task(pilot.run(), name="autopilot")
        except* Exception as failed:
            log.error("a task of the voter has failed", exc_info=failed)

    def _failed(self, reason: str) -> None:
        if reason != self.failure:
            log.error("this agent cannot vote: %s", reason)
        self.failure = reason
