"""The results of clients' requests, so that a request that arrives twice is done once.

After Ongaro's dissertation ("Consensus: Bridging Theory and Practice", 2014, section 6.3): a
client has a session, numbers its requests in it, and says with each which results it still waits
for. A session's number is never given twice, so a late duplicate cannot find itself in a session
that does not remember it: it finds no session at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from constellation_core.consensus.state.limits import (
    MAX_RESULTS,
    MAX_SESSIONS,
    SESSION_WINDOW,
)
from constellation_core.consensus.state.operations import RequestId
from constellation_core.consensus.state.results import Reason

RESULT_COST = 32
"""Bytes that a remembered result counts besides its own."""


class Session:
    """One client's requests.

    Attributes:
        floor: all below are finished.
        results: those that are not, by sequence.
    """

    __slots__ = ("floor", "results")

    def __init__(self, floor: int = 1) -> None:
        self.floor = floor
        self.results: dict[int, bytes] = {}

    def cost(self) -> int:
        """Bytes that its results count."""
        return sum(len(result) + RESULT_COST for result in self.results.values())


class Sessions:
    """All sessions, the one that was silent longest first.

    Attributes:
        last: the highest number that was given.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self._sessions: dict[int, Session] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[tuple[int, Session]]:
        return iter(self._sessions.items())

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> int:
        """Begin a session; its number."""
        self.last += 1
        self.restore(self.last, Session())
        self._forget()
        return self.last

    def begin(self, request: RequestId) -> bytes | Reason | None:
        """The result of a request that was done before, or why it must not be done, if any."""
        session = self._sessions.get(request.session)
        if session is None:
            return Reason.NO_SESSION
        # The end of the order is the one that spoke last.
        self._sessions[request.session] = self._sessions.pop(request.session)
        self._finish(session, request.floor)
        if request.sequence < session.floor:
            return Reason.FINISHED
        if request.sequence >= session.floor + SESSION_WINDOW:
            return Reason.WINDOW
        return session.results.get(request.sequence)

    def end(self, request: RequestId, result: bytes) -> None:
        """Remember the result of a request that was begun."""
        self._sessions[request.session].results[request.sequence] = result
        self._bytes += len(result) + RESULT_COST
        self._forget()

    def restore(self, number: int, session: Session) -> None:
        """Put back a session from a snapshot."""
        self._sessions[number] = session
        self._bytes += session.cost()

    def _finish(self, session: Session, floor: int) -> None:
        if floor <= session.floor:
            return
        session.floor = floor
        for sequence in [each for each in session.results if each < floor]:
            self._bytes -= len(session.results.pop(sequence)) + RESULT_COST

    def _forget(self) -> None:
        while len(self._sessions) > MAX_SESSIONS:
            self._drop(next(iter(self._sessions)))
        while self._bytes > MAX_RESULTS:
            # One without results takes no room worth speaking of.
            self._drop(next(number for number, each in self._sessions.items() if each.results))

    def _drop(self, number: int) -> None:
        self._bytes -= self._sessions.pop(number).cost()
