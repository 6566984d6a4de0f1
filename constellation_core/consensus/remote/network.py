"""What the way to the voters asks of the network: who the voters are, and one call to one of them.

Nothing here knows which network it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

Messages = Sequence[bytes]
"""A reply: one message or more, none larger than :data:`~.wire.MAX_MESSAGE`."""

Send = Callable[[bytes, bool], Awaitable[None]]
"""Sends one message of a reply, and says whether it is the last."""


class NotReachedError(Exception):
    """The voter did not get the request, and will not."""


class LostError(Exception):
    """The voter may have got the request, or may yet; no whole reply came."""


class Directory(Protocol):
    """Who votes, as far as it is known. May be out of date: nothing but delay comes of it.

    All that it names belong to one cluster.
    """

    def voters(self) -> Sequence[str]:
        """The voters' ids in the order in which to try them.

        The voter of this very process comes first, if there is one.
        """
        ...

    def leader(self) -> str | None:
        """Who is thought to lead."""
        ...


class Caller(Protocol):
    """Reaches voters by their ids."""

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Messages:
        """Send one request, and give all messages of the reply.

        A request that is sent may arrive once; a way on which it may arrive again must not give
        a reply to one copy that would be wrong for another.

        Args:
            voter: its id.
            request: at most :data:`~.wire.MAX_REQUEST` bytes.
            timeout: seconds until the reply begins.

        Raises:
            NotReachedError: it is certain that nothing arrived and nothing will.
            LostError: it is not.
        """
        ...


class Service(Protocol):
    """What answers on a voter; :class:`~.service.ConsensusService` does."""

    @property
    def voter(self) -> str:
        """Its id."""
        ...

    async def serve(self, request: bytes, send: Send) -> None:
        """Answer one request; see there."""
        ...


class LocalFirst:
    """A :class:`Caller` that asks the voter of this very process without a network.

    Args:
        caller: reaches the others.
        local: the voter here, as long as there is one.
    """

    def __init__(self, caller: Caller, local: Callable[[], Service | None]) -> None:
        self._caller = caller
        self._local = local

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Messages:
        """As :meth:`Caller.call`."""
        service = self._local()
        if service is None or service.voter != voter:
            return await self._caller.call(voter, request, timeout=timeout)
        messages: list[bytes] = []

        async def keep(message: bytes, last: bool) -> None:  # noqa: ARG001
            messages.append(message)

        try:
            async with asyncio.timeout(timeout):
                await service.serve(request, keep)
        except TimeoutError:
            raise LostError("this voter did not answer in time") from None
        if not messages:
            raise LostError("this voter did not answer")
        return messages
