"""How agents ask each other about voters: one call over gossip's streams for each question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from constellation_core.consensus.voters.network import UnreachableError
from constellation_core.gossip import (
    Gossip,
    Member,
    ServiceLimits,
    StreamError,
    StreamInfo,
)

SERVICE = "voters"

_LARGEST = 16 * 1024
_LIMITS = ServiceLimits(message=_LARGEST, total=_LARGEST, duration=60.0, concurrent=32)


class Questions:
    """A :class:`~constellation_core.consensus.voters.network.Caller`, and what answers it."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    def serve(self, answer: Callable[[bytes], Awaitable[bytes]]) -> Callable[[], None]:
        """Let other agents ask; returns what ends it."""

        async def handle(request: bytes, _: StreamInfo) -> bytes:
            return await answer(request)

        return self._gossip.streams.serve_call(SERVICE, handle, limits=_LIMITS)

    async def call(self, node: str, request: bytes, *, timeout: float) -> bytes:
        """Ask an agent.

        Raises:
            UnreachableError: there was no answer.
        """
        member = self._member(node)
        if member is None:
            raise UnreachableError(f"{node} is not alive")
        try:
            return await self._gossip.streams.call(
                member, SERVICE, request, timeout=timeout, message=_LARGEST
            )
        except StreamError as error:
            raise UnreachableError(str(error)) from error

    def _member(self, node: str) -> Member | None:
        found = (each for each in self._gossip.members() if each.name == node and each.online)
        return next(found, None)
