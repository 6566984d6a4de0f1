"""A client's requests: tried until they are answered, and carried out once."""

from __future__ import annotations

import asyncio
from random import Random

from constellation_core.consensus.access import Access
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import NotLeader, Unavailable, Unknown
from constellation_core.consensus.state.limits import SESSION_WINDOW
from constellation_core.consensus.state.operations import (
    OpenSession,
    Operation,
    RequestId,
    encode,
)
from constellation_core.consensus.state.results import (
    Opened,
    Reason,
    Refused,
    Result,
    decode_result,
)

ATTEMPT = 2.0
"""Seconds for one attempt; an answer that did not come by then was lost."""

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0


class Backoff:
    """The waits between attempts: doubled each time, with chance in them."""

    def __init__(self, clock: BootClock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._wait = _FIRST_WAIT

    async def wait(self, most: float = _LONGEST_WAIT) -> None:
        """Wait, but not longer than ``most`` seconds."""
        seconds = self._wait * self._random.uniform(0.5, 1.0)
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        await self._clock.sleep(min(seconds, max(most, 0.0)))


class _Session:
    """Numbers requests, and knows which of them are unfinished."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._next = 1
        self._unfinished: set[int] = set()
        self._finished = asyncio.Event()

    @property
    def floor(self) -> int:
        """The lowest sequence that is unfinished."""
        return min(self._unfinished, default=self._next)

    async def begin(self) -> int:
        """A new sequence, as soon as the voters will take it."""
        while self._next >= self.floor + SESSION_WINDOW:
            self._finished.clear()
            await self._finished.wait()
        sequence = self._next
        self._next += 1
        self._unfinished.add(sequence)
        return sequence

    def finish(self, sequence: int) -> None:
        """Nobody waits for this one any more."""
        self._unfinished.discard(sequence)
        self._finished.set()


class Requests:
    """Submits operations for one client. To be used in one event loop.

    Args:
        access: the way to the voters.
        clock: for waits and time limits.
        random: chance in the waits.
    """

    def __init__(self, access: Access, clock: BootClock, random: Random) -> None:
        self._access = access
        self._clock = clock
        self._random = random
        self._session: _Session | None = None
        self._opening = asyncio.Lock()

    async def submit(self, operation: Operation, *, timeout: float) -> Result:
        """Have ``operation`` carried out exactly once, and give what came of it.

        It is tried again, with the same request id, until it is answered.

        Args:
            operation: one that needs a request id, or not.
            timeout: seconds for all attempts.

        Raises:
            Unavailable: it was not done, and will not be.
            Unknown: it may be done. When it is tried anew, it may be done twice.
        """
        attempts = _Attempts(self._access, self._clock, self._random, timeout)
        while True:
            session = await self._open(attempts)
            try:
                async with asyncio.timeout(attempts.left()):
                    sequence = await session.begin()
            except TimeoutError:
                raise Unavailable("too many requests are unfinished") from None
            try:
                result = await attempts.run(operation, session, sequence)
            finally:
                session.finish(sequence)
            if result != Refused(Reason.NO_SESSION):
                return result
            if self._session is session:
                self._session = None
            if attempts.doubtful:
                raise Unknown("the voters forgot this client before they answered it")

    async def _open(self, attempts: _Attempts) -> _Session:
        async with self._opening:
            if self._session is None:
                # One too many does no harm, so it needs no request id itself.
                try:
                    opened = await attempts.run(OpenSession(), None, 0)
                except Unknown as error:
                    raise Unavailable("no session could be opened in time") from error
                attempts.doubtful = False
                if not isinstance(opened, Opened):
                    raise Unavailable(f"no session: {opened}")
                self._session = _Session(opened.session)
            return self._session


class _Attempts:
    """One request's attempts.

    Attributes:
        doubtful: it may have been carried out although nobody said so.
    """

    def __init__(self, access: Access, clock: BootClock, random: Random, timeout: float) -> None:
        self.doubtful = False
        self._access = access
        self._clock = clock
        self._deadline = clock.boottime() + timeout
        self._backoff = Backoff(clock, random)

    def left(self) -> float:
        """Seconds that are left for all attempts; at least 0."""
        return max(0.0, self._deadline - self._clock.boottime())

    async def run(self, operation: Operation, session: _Session | None, sequence: int) -> Result:
        """Try until there is an answer that another attempt would not change."""
        last: Exception | None = None
        while self.left() > 0:
            request = None
            if session is not None:
                request = RequestId(session.number, sequence, session.floor)
            try:
                answer = await self._access.propose(
                    encode(operation, request), timeout=min(ATTEMPT, self.left())
                )
                result = decode_result(answer)
            except (NotLeader, Unavailable) as error:
                last = error
            except Unknown as error:
                self.doubtful = True
                last = error
            else:
                if not isinstance(result, Refused):
                    return result
                if result.reason is Reason.OUTDATED:
                    self.doubtful = True
                elif result.reason is not Reason.WINDOW:
                    return result
                last = Unavailable(f"refused: {result.reason.name}")
            await self._backoff.wait(self.left())
        if self.doubtful:
            raise Unknown("no answer in time; it may be done") from last
        raise Unavailable("no voter took it in time") from last
