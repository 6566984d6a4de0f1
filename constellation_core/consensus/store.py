"""Small keys and values that survive whatever a majority of the voters survives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

from constellation_core.consensus.access import Access
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, NotLeader, Unavailable, Unknown
from constellation_core.consensus.requests import ATTEMPT, Backoff, Requests
from constellation_core.consensus.state import Answer, Entry, Query, Space
from constellation_core.consensus.state.entries import key_fits
from constellation_core.consensus.state.limits import MAX_KEY, MAX_TOTAL, MAX_VALUE
from constellation_core.consensus.state.operations import Delete, Put
from constellation_core.consensus.state.results import (
    Conflict,
    Done,
    Reason,
    Refused,
    Result,
)
from constellation_core.consensus.watching import Changes, follow

TIMEOUT = 10.0
"""Seconds; an election takes two or three."""


class CompareFailed(ConsensusError):  # noqa: N818 - as the outcomes in .interface
    """Nothing was done, since the key is not as it was expected to be.

    Attributes:
        revision: the key's; 0 when there is none. It may have changed again.
    """

    def __init__(self, key: str, revision: int) -> None:
        super().__init__(f"{key!r} has revision {revision}" if revision else f"no key {key!r}")
        self.revision = revision


class StoreFull(ConsensusError):  # noqa: N818
    """Nothing was done: all keys and values together would be too large."""


class Store:
    """Keys and values, the same on every node.

    Writes are linearizable and carried out once, whatever is lost on the way. Every method takes
    ``timeout``, the seconds for all attempts, and may raise:

    - :class:`~.interface.Unavailable`: nothing was done (no majority of the voters in reach);
    - :class:`~.interface.Unknown`, of writes only: it may be done, now or later. Read what
      stands there before deciding what to do.

    Args:
        access: the way to the voters.
        requests: this client's.
        clock: for waits and time limits.
        random: chance in the waits.
    """

    def __init__(
        self, access: Access, requests: Requests, clock: BootClock, random: Random
    ) -> None:
        self._access = access
        self._requests = requests
        self._clock = clock
        self._random = random

    async def get(self, key: str, *, stale: bool = False, timeout: float = TIMEOUT) -> Entry | None:
        """The key's value and revision; ``None`` when there is no such key.

        Args:
            key: the key.
            stale: be content with what some voter knows, which may be old. It costs no entry in
                the log and works without a majority; nothing must be decided by it.
            timeout: see the class.
        """
        answer = await self._read(Query(Space.KEYS, key, exact=True), stale, timeout)
        return answer.entries[0] if answer.entries else None

    async def list(
        self, prefix: str, *, stale: bool = False, timeout: float = TIMEOUT
    ) -> tuple[Entry, ...]:
        """All entries whose keys begin with ``prefix``, by key, as they were at one moment."""
        answer = await self._read(Query(Space.KEYS, prefix, exact=False), stale, timeout)
        return answer.entries

    async def put(self, key: str, value: bytes, *, timeout: float = TIMEOUT) -> int:
        """Write, whatever stands there; the entry's new revision.

        Raises:
            ValueError: the key has more than 256 bytes or none, or the value more than 64 KiB.
            StoreFull: there is no room.
        """
        return await self._write(key, Put(key, value), timeout)

    async def compare_and_set(
        self, key: str, value: bytes, expected: int, *, timeout: float = TIMEOUT
    ) -> int:
        """Write if the key's revision is ``expected`` (0: there is no such key).

        Returns:
            The entry's new revision.

        Raises:
            CompareFailed: it is another.
            ValueError: as :meth:`put`.
            StoreFull: as :meth:`put`.
        """
        return await self._write(key, Put(key, value, expected), timeout)

    async def delete(
        self, key: str, *, expected: int | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Remove the key, if it is there; with ``expected``, if its revision is this one.

        Raises:
            CompareFailed: the revision is another.
        """
        await self._write(key, Delete(key, expected), timeout)

    def watch(self, prefix: str) -> AsyncIterator[Changes]:
        """The entries whose keys begin with ``prefix``, then what changes of them.

        It never ends and never fails; see :func:`~.watching.follow`. It may lag behind.
        """
        query = Query(Space.KEYS, prefix, exact=False)
        return follow(self._access, self._clock, self._random, query)

    async def _read(self, query: Query, stale: bool, timeout: float) -> Answer:
        deadline = self._clock.boottime() + timeout
        backoff = Backoff(self._clock, self._random)
        while True:
            left = deadline - self._clock.boottime()
            try:
                return await self._access.query(
                    query, linearizable=not stale, wait=0.0, timeout=min(ATTEMPT, max(left, 0.0))
                )
            except (NotLeader, Unavailable, Unknown) as error:
                if left <= 0:
                    raise Unavailable("no voter answered in time") from error
                await backoff.wait(left)

    async def _write(self, key: str, operation: Put | Delete, timeout: float) -> int:
        if not key_fits(key):
            raise ValueError(f"a key has 1 to {MAX_KEY} bytes")
        if isinstance(operation, Put) and len(operation.value) > MAX_VALUE:
            raise ValueError(f"a value has at most {MAX_VALUE} bytes")
        return _revision(key, await self._requests.submit(operation, timeout=timeout))


def _revision(key: str, result: Result) -> int:
    match result:
        case Done(revision):
            return revision
        case Conflict(revision):
            raise CompareFailed(key, revision)
        case Refused(Reason.TOTAL_SIZE):
            raise StoreFull(f"the store takes {MAX_TOTAL} bytes in all")
    raise Unavailable(f"refused: {result}")
