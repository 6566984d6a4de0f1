"""Asks other agents about voters, and waits."""

from __future__ import annotations

from collections.abc import Callable

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.voters.network import Caller, UnreachableError
from constellation_core.consensus.voters.wire import (
    Reply,
    Request,
    decode_reply,
    encode_request,
)

_POLL = 0.05


class Asking:
    """Sends requests.

    Args:
        caller: the way to the other agents.
        timeout: seconds for a request, where nothing else is said.
    """

    def __init__(self, caller: Caller, timeout: float) -> None:
        self._caller = caller
        self._timeout = timeout

    async def ask(self, node: str, request: Request, timeout: float | None = None) -> Reply:
        """Ask an agent.

        Raises:
            UnreachableError: there was no answer, or none that can be understood.
        """
        seconds = self._timeout if timeout is None else timeout
        answer = await self._caller.call(node, encode_request(request), timeout=seconds)
        try:
            return decode_reply(answer)
        except ValueError as error:
            raise UnreachableError(f"{node} gave an answer that is none") from error


async def wait_until(condition: Callable[[], bool], seconds: float, clock: BootClock) -> bool:
    """Wait for a condition; whether it holds."""
    deadline = clock.boottime() + seconds
    while not condition():
        if clock.boottime() >= deadline:
            return False
        await clock.sleep(_POLL)
    return True
