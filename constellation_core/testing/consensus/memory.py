"""Store and leases in memory, for tests of plugins: real ones, over voters that are one object.

::

    consensus = MemoryConsensus()
    here = FakeContext("dns", consensus=consensus)
    there = FakeContext("dns", node="node-b", consensus=consensus)
    async with here.lease("dns-writer") as lease:
        ...
        consensus.expire("dns-writer")              # as if the voters had heard nothing of it

Time stands still but for :meth:`~..manual_clock.ManualClock.advance`, so that what is tried again
with pauses goes on only when the test turns the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import Unavailable
from constellation_core.consensus.leases import Leases, LeaseTimes, holder_id
from constellation_core.consensus.leases.lease import Tenure
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Answer, Query, ReplicatedState
from constellation_core.consensus.state.operations import Expire, Operation, Renew, encode
from constellation_core.consensus.state.results import Renewed, Result, decode_result
from constellation_core.consensus.store import Store
from constellation_core.testing.manual_clock import ManualClock


class MemoryConsensus:
    """What all agents of a test agree on.

    Args:
        clock: of all of them.

    Attributes:
        clock: the same.
        available: while false, nothing is answered, as without a majority of the voters: leases
            that are held are lost when their time is over.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.available = True
        self._state = ReplicatedState()
        self._index = 0
        self._changed = asyncio.Event()
        self._random = Random(0)

    def agent(self, node: str = "node-a") -> MemoryBackend:
        """A start of an agent: another holder of leases than all before."""
        return MemoryBackend(self, holder_id(node, self._random), self._random)

    def expire(self, lease: str) -> None:
        """End a lease that some agent holds, as the voters do with one that is not renewed.

        Raises:
            LookupError: nobody holds it.
        """
        for held in self._state.leases():
            if held.name == lease:
                self._apply(encode(Expire(held.epoch, held.renewals)))
                return
        raise LookupError(f"nobody holds the lease {lease!r}")

    # What an Access does.

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:  # noqa: ARG002
        """Carried out at once."""
        await self._reached()
        return self._apply(operation)

    async def query(
        self,
        query: Query,
        *,
        linearizable: bool,  # noqa: ARG002
        wait: float,
        timeout: float,  # noqa: ARG002
    ) -> Answer:
        """The present state; waits, in turns of the clock, for what is to come."""
        await self._reached()
        answer = self._state.answer(query)
        if wait <= 0 or answer.complete or answer.entries or answer.gone:
            return answer
        changed = asyncio.create_task(self._changed.wait())
        patience = asyncio.create_task(self.clock.sleep(wait))
        try:
            await asyncio.wait((changed, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            patience.cancel()
        return self._state.answer(query)

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:  # noqa: ARG002
        """Renewed at once."""
        await self._reached()
        times = LeaseTimes()
        result = self._carry_out(Renew(epochs))
        lost = result.lost if isinstance(result, Renewed) else epochs
        return Renewal(lost, times.interval(times.ttl))

    async def _reached(self) -> None:
        # As anything that crosses a network, it lets others run.
        await asyncio.sleep(0)
        if not self.available:
            raise Unavailable("the test made consensus unavailable")

    def _carry_out(self, operation: Operation) -> Result:
        return decode_result(self._apply(encode(operation)))

    def _apply(self, operation: bytes) -> bytes:
        self._index += 1
        result = self._state.apply(self._index, operation)
        self._changed.set()
        self._changed = asyncio.Event()
        return result


class MemoryBackend:
    """One agent's :class:`~constellation_core.ConsensusBackend`.

    Attributes:
        store: keys and values.
        leases: this agent's.
    """

    name = "memory"

    def __init__(self, consensus: MemoryConsensus, holder: str, random: Random) -> None:
        clock = _Boot(consensus.clock)
        requests = Requests(consensus, clock, random)
        self._consensus = consensus
        self.store = Store(consensus, requests, clock, random)
        self.leases = Leases(
            consensus, requests, clock, random, ClockWatchdog(consensus.clock), holder=holder
        )

    async def run(self) -> None:
        """Nothing has to be kept going."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """End all blocks that hold a lease, and release what they held."""
        await self.leases.close()

    def describe(self) -> Mapping[str, Any]:
        """How things stand."""
        available = self._consensus.available
        return {
            "backend": self.name,
            "available": available,
            "leader": None,
            "problems": [] if available else ["the test made consensus unavailable"],
        }


class ClockWatchdog:
    """A :class:`~constellation_core.consensus.leases.Watchdog` that goes by a test's clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def guard(self, tenure: Tenure, over: Callable[[], None]) -> Callable[[], bool]:
        """As :meth:`Watchdog.guard`; ``over`` is called in the event loop."""

        async def watch() -> None:
            while (left := tenure.left()) > 0:
                await self._clock.sleep(left)
            over()

        task = asyncio.create_task(watch())
        return task.cancel


class _Boot:
    """A test's clock, as the boot-time clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.boottime = clock.monotonic
        self.sleep = clock.sleep
