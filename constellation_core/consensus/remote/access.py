"""An agent's way to the voters, whichever of them answers."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import (
    ApplyFailed,
    ConsensusError,
    EngineStatus,
    NotLeader,
    Unavailable,
    Unknown,
)
from constellation_core.consensus.remote.network import (
    Caller,
    Directory,
    LostError,
    NotReachedError,
)
from constellation_core.consensus.remote.values import MalformedError
from constellation_core.consensus.remote.wire import (
    MAX_EPOCHS,
    MAX_OPERATION,
    SHARE,
    Ask,
    AskStatus,
    Body,
    Carried,
    Failure,
    Outcome,
    Propose,
    RenewLeases,
    Reply,
    Request,
    decode_reply,
    encode_request,
)
from constellation_core.consensus.state import Answer, Query
from constellation_core.consensus.state.limits import MAX_KEY

AVOIDED = 5.0
"""Seconds for which a voter that was of no use comes after all the others."""


class RemoteAccess:
    """An :class:`~..access.Access` through any voter.

    An attempt goes on to the next voter, or to the one that is said to lead, as long as it is
    certain that nothing was done. From the first request on that may have arrived without an
    answer, all that it can end with is a result or :class:`~..interface.Unknown`.

    Args:
        directory: who votes.
        caller: reaches them.
        clock: for time limits.
    """

    def __init__(self, directory: Directory, caller: Caller, clock: BootClock) -> None:
        self._directory = directory
        self._caller = caller
        self._clock = clock
        self._avoided: dict[str, float] = {}

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As :meth:`~..access.Access.propose`.

        Raises:
            ValueError: the operation is larger than any that a client may ask for.
        """
        if len(operation) > MAX_OPERATION:
            raise ValueError(f"an operation has at most {MAX_OPERATION} bytes")
        reply = await self._ask(Propose(operation), timeout, self._order(leads=True))
        if isinstance(reply, Carried):
            return reply.result
        raise _strange(reply)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """As :meth:`~..access.Access.query`.

        Raises:
            ValueError: the name is longer than any.
        """
        if len(query.name.encode()) > MAX_KEY:
            raise ValueError(f"a name has at most {MAX_KEY} bytes")
        asked = Ask(query, linearizable, wait)
        reply = await self._ask(asked, timeout, self._order(leads=linearizable))
        if isinstance(reply, Answer):
            return reply
        raise _strange(reply)

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """As :meth:`~..access.Access.renew`.

        Raises:
            ValueError: none or too many epochs.
        """
        if not 0 < len(epochs) <= MAX_EPOCHS:
            raise ValueError(f"1 to {MAX_EPOCHS} leases are renewed at a time")
        reply = await self._ask(RenewLeases(epochs), timeout, self._order(leads=True))
        if isinstance(reply, Renewal):
            return reply
        raise _strange(reply)

    async def status(self, voter: str, *, timeout: float) -> EngineStatus:
        """How one voter sees the group.

        Raises:
            ConsensusError: it does not say.
        """
        reply = await self._ask(AskStatus(), timeout, [voter])
        if isinstance(reply, EngineStatus):
            return reply
        raise _strange(reply)

    async def _ask(self, body: Body, timeout: float, order: list[str]) -> Reply:
        """Try voters until one has an answer that another would not change."""
        end = self._clock.boottime() + timeout
        waiting = deque(order)
        asked: set[str] = set()
        last: ConsensusError = Unavailable("no voter is known")
        while waiting and (left := end - self._clock.boottime()) > 0:
            voter = waiting.popleft()
            if voter in asked:
                continue
            asked.add(voter)
            reply = await self._call(voter, Request(body, left))
            match reply:
                case None:
                    last = Unavailable("no voter is reached")
                case Failure(Outcome.NOT_LEADER, _, leader):
                    last = NotLeader(leader)
                    if leader is not None:
                        waiting.appendleft(leader.id)
                case Failure(Outcome.UNAVAILABLE, reason):
                    self._avoid(voter)
                    last = Unavailable(reason)
                case Failure(outcome, reason):
                    raise _final(outcome, reason)
                case _:
                    return reply
        raise last

    async def _call(self, voter: str, request: Request) -> Reply | None:
        """The reply of one voter; ``None`` when it was not reached.

        Raises:
            Unknown: it may have been, but there is no reply.
        """
        asked = replace(request, timeout=SHARE * request.timeout)
        try:
            messages = await self._caller.call(
                voter, encode_request(asked), timeout=request.patience
            )
            reply = decode_reply(messages)
        except NotReachedError:
            self._avoid(voter)
            return None
        except LostError as error:
            self._avoid(voter)
            raise Unknown(str(error)) from error
        except MalformedError as error:
            self._avoid(voter)
            raise Unknown(f"a voter's reply cannot be read: {error}") from error
        self._avoided.pop(voter, None)
        return reply

    def _avoid(self, voter: str) -> None:
        self._avoided[voter] = self._clock.boottime() + AVOIDED

    def _order(self, *, leads: bool) -> list[str]:
        """In which order to try; with ``leads`` who is thought to lead comes first."""
        now = self._clock.boottime()
        self._avoided = {voter: until for voter, until in self._avoided.items() if until > now}
        leader = self._directory.leader() if leads else None
        voters = [*([leader] if leader else []), *self._directory.voters()]
        return sorted(voters, key=lambda voter: voter in self._avoided)


def _final(outcome: Outcome, reason: str) -> ConsensusError:
    match outcome:
        case Outcome.REFUSED:
            return Unavailable(f"refused: {reason}")
        case Outcome.APPLY_FAILED:
            return ApplyFailed(reason)
    return Unknown(reason)


def _strange(reply: Reply) -> Unknown:
    return Unknown(f"a voter answered with something else: {type(reply).__name__}")
