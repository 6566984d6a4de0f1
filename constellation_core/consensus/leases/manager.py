"""An agent's leases: what plugins hold and follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from random import Random

import msgpack

from constellation_core.consensus.access import Access, Renewal
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError
from constellation_core.consensus.leases.blocks import Blocks
from constellation_core.consensus.leases.hold import Hold
from constellation_core.consensus.leases.times import LeaseTimes
from constellation_core.consensus.leases.watchdog import Watchdog
from constellation_core.consensus.requests import Backoff, Requests
from constellation_core.consensus.state import Entry, Query, Space
from constellation_core.consensus.state.operations import Acquire, Release
from constellation_core.consensus.state.results import Granted, HeldByOther
from constellation_core.consensus.watching import follow

_ROUND_TRIP = 2.0
_WAIT = 10.0


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
        self._clock = clock
        self._random = random
        times = times or LeaseTimes()
        grants = _VoterGrants(access, requests, clock, random, holder, times)
        self._blocks = Blocks(grants, clock, random, watchdog, times)

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
            on_lost: called once when the lease is lost, on a thread of its own or in the event
                loop: for what the block runs outside of it, as a child process to be killed.

        Raises:
            ValueError: for a name or a ttl that cannot be.
        """
        return self._blocks.hold(name, ttl=ttl, wait_out=wait_out, on_lost=on_lost)

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
        await self._blocks.close()


class _VoterGrants:
    """The voters as :class:`~.grants.Grants`."""

    def __init__(
        self,
        access: Access,
        requests: Requests,
        clock: BootClock,
        random: Random,
        holder: str,
        times: LeaseTimes,
    ) -> None:
        self._access = access
        self._requests = requests
        self._clock = clock
        self._random = random
        self._holder = holder
        self._times = times

    async def ask(self, name: str, ttl: float, *, timeout: float) -> Granted | HeldByOther:
        # What may have been granted although it is not known is this holder's all the same: it
        # is told so when it asks again, and it expires when it does not.
        asked = Acquire(name, self._holder, round(ttl * 1000))
        result = await self._requests.submit(asked, timeout=timeout)
        if isinstance(result, Granted | HeldByOther):
            return result
        raise ValueError(f"lease {name} is refused: {result}")

    async def renew(self, name: str, epoch: int, ttl: float, *, timeout: float) -> Renewal:  # noqa: ARG002
        return await self._access.renew((epoch,), timeout=self._times.gather + timeout)

    async def release(self, name: str, epoch: int, *, timeout: float) -> None:  # noqa: ARG002
        await self._requests.submit(Release(epoch), timeout=timeout)

    async def until_free(self, name: str, revision: int) -> None:
        backoff = Backoff(self._clock, self._random)
        while True:
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


def _view(entry: Entry) -> LeaseView:
    holder, epoch, ttl = msgpack.unpackb(entry.value)
    return LeaseView(holder, epoch, ttl / 1000)
