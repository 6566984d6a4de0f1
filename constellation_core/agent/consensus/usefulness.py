"""Whether consensus was of use lately, by what came of this agent's own requests."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from constellation_core.consensus.access import Access, Renewal
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import NotLeader, Unavailable, Unknown
from constellation_core.consensus.state import Answer, Query

T = TypeVar("T")

_LATELY = 30.0
"""Seconds for which a failure that no success followed counts."""


class NotedAccess:
    """An :class:`~constellation_core.consensus.access.Access` that remembers how it went.

    Args:
        access: the way to the voters.
        clock: the boot-time clock.
    """

    def __init__(self, access: Access, clock: BootClock) -> None:
        self._access = access
        self._clock = clock
        self._failure: tuple[float, str] | None = None

    def trouble(self) -> str | None:
        """Why a majority of the voters is not reached; ``None`` as far as this agent knows."""
        if self._failure is None or self._clock.boottime() - self._failure[0] > _LATELY:
            return None
        return self._failure[1]

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As :meth:`Access.propose`."""
        return await self._noted(self._access.propose(operation, timeout=timeout))

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """As :meth:`Access.renew`."""
        return await self._noted(self._access.renew(epochs, timeout=timeout))

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """As :meth:`Access.query`."""
        asked = self._access.query(query, linearizable=linearizable, wait=wait, timeout=timeout)
        # What any voter answers by itself says nothing of a majority.
        return await (self._noted(asked) if linearizable else asked)

    async def _noted(self, asked: Awaitable[T]) -> T:
        try:
            answer = await asked
        except (NotLeader, Unavailable, Unknown) as error:
            self._failure = (self._clock.boottime(), str(error))
            raise
        self._failure = None
        return answer
