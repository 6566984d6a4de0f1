"""Trying again, until it is known what came of it or the time is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from constellation_core.consensus import ConsensusError, Unavailable, Unknown
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.requests import ATTEMPT, Backoff
from constellation_plugin_etcd.answers import Refusal

T = TypeVar("T")


class Attempts:
    """The attempts of one caller.

    Args:
        clock: for waits and the time limit.
        random: chance in the waits.
        timeout: seconds for all of them.
    """

    def __init__(self, clock: BootClock, random: Random, timeout: float) -> None:
        self._clock = clock
        self._deadline = clock.boottime() + timeout
        self._backoff = Backoff(clock, random)

    def left(self) -> float:
        """Seconds that are left; at least 0."""
        return max(0.0, self._deadline - self._clock.boottime())

    async def read(self, ask: Callable[[float], Awaitable[T]]) -> T:
        """Call ``ask``, which changes nothing, with a time limit until it gives an answer.

        Raises:
            Unavailable: the time is over, or nobody will ever answer.
        """
        try:
            return await self._until_answered(ask)
        except _InVain as vain:
            raise Unavailable(f"etcd gave no answer: {vain.last}") from vain.last

    async def change(self, ask: Callable[[float], Awaitable[T]]) -> T:
        """Call ``ask`` with a time limit until it gives an answer.

        An attempt before the one that was answered may have been carried out as well.

        Raises:
            Unavailable: no attempt was carried out, nor will be.
            Unknown: one may have been.
        """
        try:
            return await self._until_answered(ask)
        except _InVain as vain:
            if vain.doubtful:
                text = f"it may be done; etcd gave no answer: {vain.last}"
                raise Unknown(text) from vain.last
            raise Unavailable(f"etcd did not take it: {vain.last}") from vain.last

    async def _until_answered(self, ask: Callable[[float], Awaitable[T]]) -> T:
        doubtful = False
        last: ConsensusError | None = None
        while (left := self.left()) > 0:
            try:
                return await ask(min(ATTEMPT, left))
            except Refusal as error:
                last = error
                if error.final:
                    break
            except Unavailable as error:
                last = error
            except Unknown as error:
                doubtful = True
                last = error
            await self._backoff.wait(left)
        raise _InVain(doubtful, last)


class _InVain(Exception):  # noqa: N818 - no error of its own
    def __init__(self, doubtful: bool, last: ConsensusError | None) -> None:
        super().__init__()
        self.doubtful = doubtful
        self.last = last
