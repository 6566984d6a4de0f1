"""Queries that wait for a change on a voter: looked at together, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from constellation_core.consensus.interface import ConsensusError, Engine, Unavailable
from constellation_core.consensus.state import Answer, OutdatedError, Query, ReplicatedState


@dataclass(slots=True, eq=False)
class _Waiter:
    """One who waits.

    Attributes:
        query: what is asked for; ``after`` moves on, so that nothing is looked at twice.
        news: done as soon as there is something to tell.
        answer: the latest.
    """

    query: Query
    news: asyncio.Future[None]
    answer: Answer | None = None

    def take(self, answer: Answer) -> None:
        """Note an answer, which may be older than the one before."""
        if self.news.done() or (self.answer and answer.revision < self.answer.revision):
            return
        self.answer = answer
        if answer.complete or answer.entries or answer.gone:
            self.news.set_result(None)
        elif answer.revision > (self.query.after or 0):
            self.query = replace(self.query, after=answer.revision)


class Waiting:
    """All queries that wait at one voter.

    With each change the engine's thread is asked once for all of them, and not once for each.

    Args:
        engine: the voter.
        state: what it drives.
    """

    def __init__(self, engine: Engine, state: ReplicatedState) -> None:
        self._engine = engine
        self._state = state
        # In the order in which they came, so that simulations can be repeated.
        self._waiters: dict[_Waiter, None] = {}
        self._forget: Callable[[], None] = lambda: None
        self._looking: asyncio.Task[None] | None = None
        self._changed = False

    async def read(self, query: Query) -> Answer:
        """How things stand.

        Raises:
            Unavailable: this voter cannot tell.
        """
        (answer,) = await self._answers([query])
        return answer

    async def wait(self, query: Query, seconds: float) -> Answer:
        """What changed after ``query.after``, as soon as something did; after so many seconds
        that nothing did.

        Raises:
            Unavailable: this voter cannot tell.
        """
        waiter = _Waiter(query, asyncio.get_running_loop().create_future())
        # That nobody waits any more for what failed is no defect.
        waiter.news.add_done_callback(lambda news: news.cancelled() or news.exception())
        if not self._waiters:
            self._forget = self._engine.on_applied(self._applied)
        # Before the first reading, or what is applied right after it would be missed.
        self._waiters[waiter] = None
        try:
            answer = await self.read(query)
            waiter.take(answer)
            async with asyncio.timeout(seconds):
                await waiter.news
        except TimeoutError:
            pass
        finally:
            self._waiters.pop(waiter, None)
            if not self._waiters:
                self._forget()
        return waiter.answer or answer

    def _applied(self, index: int) -> None:  # noqa: ARG002
        self._changed = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while self._changed and self._waiters:
            self._changed = False
            waiters = list(self._waiters)
            try:
                answers = await self._answers([waiter.query for waiter in waiters])
            except ConsensusError as error:
                for waiter in waiters:
                    if not waiter.news.done():
                        waiter.news.set_exception(error)
                continue
            for waiter, answer in zip(waiters, answers, strict=True):
                waiter.take(answer)

    async def _answers(self, queries: list[Query]) -> list[Answer]:
        try:
            return await self._engine.read(lambda: [*map(self._state.answer, queries)])
        except OutdatedError as error:
            raise Unavailable(str(error)) from error
