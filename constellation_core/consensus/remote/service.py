"""What a voter answers to those who do not vote."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace

from constellation_core.consensus.access import Access
from constellation_core.consensus.interface import (
    ApplyFailed,
    ConsensusError,
    Engine,
    NotLeader,
    Unavailable,
)
from constellation_core.consensus.remote import wire
from constellation_core.consensus.remote.network import (
    Caller,
    LostError,
    NotReachedError,
    Send,
)
from constellation_core.consensus.remote.values import MalformedError
from constellation_core.consensus.remote.wire import (
    Ask,
    AskStatus,
    Carried,
    Failure,
    Outcome,
    Propose,
    RenewLeases,
    Reply,
    Request,
)
from constellation_core.consensus.state.operations import (
    Kind,
    decode_header,
    decode_operation,
)

log = logging.getLogger("constellation.consensus")

ALLOWED = frozenset({Kind.PUT, Kind.DELETE, Kind.OPEN_SESSION, Kind.ACQUIRE, Kind.RELEASE})
"""Operations that a client may ask for. What ends a lease against its holder's will, moves
counters or raises the version is proposed by voters only, and renewals are collected first."""

ROOM = 32 * 1024 * 1024
"""Bytes of requests that are worked on, with :data:`REQUEST_COST` for each."""

REQUEST_COST = 8 * 1024

LARGE_REPLIES = 4
"""Replies of more than one message that are under way at a time."""

_SLACK = 1.0

SEND_TIMEOUT = 10.0
"""Seconds for one message of a reply; who takes longer does not read."""


class ConsensusService:
    """Answers requests on a voter, here or at the leader that this voter knows.

    Whoever sends requests has the cluster's key, and no more is believed of them: they cannot
    make this voter fail, fill its memory, or have it do what only voters may.

    Args:
        engine: the voter.
        access: the way to its state; a :class:`~..access.LocalAccess`.
        caller: reaches the other voters.
    """

    def __init__(self, engine: Engine, access: Access, caller: Caller) -> None:
        self._engine = engine
        self._access = access
        self._caller = caller
        self._used = 0
        self._large = asyncio.Semaphore(LARGE_REPLIES)

    @property
    def voter(self) -> str:
        """This voter's id."""
        return self._engine.status.me

    @property
    def busy(self) -> bool:
        """Whether requests are worked on."""
        return self._used > 0

    async def serve(self, request: bytes, send: Send) -> None:
        """Answer one request.

        Nothing is sent when the time that it gives is over: nobody waits any more.

        Args:
            request: from anybody who has the cluster's key.
            send: sends one message of the reply; what it raises is raised here.

        Raises:
            TimeoutError: ``send`` took too long, and a part of the reply may be missing.
        """
        cost = len(request) + REQUEST_COST
        if self._used + cost > ROOM:
            failure = Failure(Outcome.UNAVAILABLE, "this voter has too much to do")
            await self._send(wire.encode_reply(failure), send)
            return
        self._used += cost
        try:
            await self._serve(request, send)
        finally:
            self._used -= cost

    async def _serve(self, data: bytes, send: Send) -> None:
        try:
            request = wire.decode_request(data)
            _check(request)
        except ValueError as error:
            await self._send(wire.encode_reply(Failure(Outcome.REFUSED, str(error))), send)
            return
        del data
        try:
            # What is called has time limits of its own, which come first.
            async with asyncio.timeout(request.patience + _SLACK):
                messages = await self._messages(request)
        except TimeoutError:
            return
        await self._send(messages, send)

    async def _messages(self, request: Request) -> Iterable[bytes]:
        try:
            return wire.encode_reply(await self._carry_out(request))
        except NotLeader as error:
            return await self._forward(request, error)
        except ConsensusError as error:
            return wire.encode_reply(_failure(error))
        except Exception:  # a defect of ours must not be the end of what others wait for
            log.exception("a request failed")
            return wire.encode_reply(Failure(Outcome.UNKNOWN, "this voter failed; see its log"))

    async def _carry_out(self, request: Request) -> Reply:
        match request.body:
            case Propose(operation):
                return Carried(await self._access.propose(operation, timeout=request.timeout))
            case Ask(query, linearizable, wait):
                return await self._access.query(
                    query, linearizable=linearizable, wait=wait, timeout=request.timeout
                )
            case RenewLeases(epochs):
                return await self._access.renew(epochs, timeout=request.timeout)
            case AskStatus():
                return self._engine.status

    async def _forward(self, request: Request, error: NotLeader) -> Iterable[bytes]:
        """Ask the leader in place of the client, if this is the first to do so."""
        leader = error.hint
        if request.forwarded or leader is None or leader.id == self.voter:
            return wire.encode_reply(_failure(error))
        passed_on = wire.encode_request(
            replace(request, timeout=wire.SHARE * request.timeout, forwarded=True)
        )
        try:
            async with self._large if _may_be_large(request) else nullcontext():
                return await self._caller.call(leader.id, passed_on, timeout=request.patience)
        except NotReachedError:
            return wire.encode_reply(_failure(error))
        except LostError as lost:
            return wire.encode_reply(Failure(Outcome.UNKNOWN, f"the leader: {lost}"))

    async def _send(self, messages: Iterable[bytes], send: Send) -> None:
        pieces = iter(messages)
        piece, following = next(pieces), next(pieces, None)
        if following is None:
            await _send(piece, send, last=True)
            return
        if self._large.locked():
            failure = Failure(Outcome.UNAVAILABLE, "this voter sends too much already")
            for piece in wire.encode_reply(failure):
                await _send(piece, send, last=True)
            return
        async with self._large:
            while following is not None:
                await _send(piece, send, last=False)
                piece, following = following, next(pieces, None)
            await _send(piece, send, last=True)


async def _send(message: bytes, send: Send, *, last: bool) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await send(message, last)


def _check(request: Request) -> None:
    """Refuse an operation that is none, before it takes room in the log, or that is not allowed."""
    if not isinstance(request.body, Propose):
        return
    header = decode_header(request.body.operation)
    if header.kind not in ALLOWED:
        raise MalformedError("no operation that a client may ask for")
    decode_operation(header)


def _may_be_large(request: Request) -> bool:
    return isinstance(request.body, Ask) and not request.body.query.exact


def _failure(error: ConsensusError) -> Failure:
    match error:
        case NotLeader():
            return Failure(Outcome.NOT_LEADER, str(error), error.hint)
        case Unavailable():
            return Failure(Outcome.UNAVAILABLE, str(error))
        case ApplyFailed():
            return Failure(Outcome.APPLY_FAILED, str(error))
    return Failure(Outcome.UNKNOWN, str(error))
