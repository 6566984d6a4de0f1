"""The voters over gossip's streams: one connection to each that is used, for many calls at a time.

A message from the caller is the number of the call and the request, one from the voter the number,
whether it is the reply's last, and what it says. A connection for each call would do for
proposals, but watches and waits for leases are calls that last, and one more round trip or two for
each call would be felt between regions.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections.abc import Callable, Sequence
from functools import partial

from constellation_core.consensus.remote import LostError, NotReachedError
from constellation_core.consensus.remote.network import Service
from constellation_core.consensus.remote.wire import MAX_MESSAGE, MAX_REPLY, MAX_REQUEST
from constellation_core.gossip import (
    Member,
    RejectionError,
    RemoteRejectionError,
    ServiceLimits,
    Stream,
    StreamEndpoint,
    StreamError,
    StreamRefusedError,
)

SERVICE = "consensus"

AT_ONCE = 256
"""Calls that one connection may have under way; long ones included."""

CONNECT = 1.0
"""Seconds until a voter that is not reached is given up; others may be nearer."""

PATIENCE = 5.0
"""Seconds between two messages of one reply."""

IDLE = 60.0
"""Seconds after which a connection is closed that nobody uses."""

_NOT_A_VOTER = "not-a-voter"
_REQUEST = struct.Struct("!Q")
_REPLY = struct.Struct("!Q?")
_LIMITS = ServiceLimits(message=_REQUEST.size + MAX_REQUEST, concurrent=1024)


def serve(streams: StreamEndpoint, service: Callable[[], Service | None]) -> Callable[[], None]:
    """Answer the calls of other nodes.

    Args:
        streams: this node's.
        service: what answers, while this node is a voter.

    Returns:
        What ends it for new connections.
    """
    return streams.serve(SERVICE, partial(_answer, service), limits=_LIMITS)


async def _answer(service: Callable[[], Service | None], stream: Stream) -> None:
    if service() is None:
        # Callers rely on that nothing was read before this.
        raise RejectionError(_NOT_A_VOTER, "it is no voter")
    running: set[asyncio.Task[None]] = set()
    try:
        async for message in stream:
            voter = service()
            # Callers keep to half of it, since they see the end of a call first.
            if voter is None or len(running) >= 2 * AT_ONCE or len(message) < _REQUEST.size:
                return
            (number,) = _REQUEST.unpack_from(message)
            answering = _answer_one(voter, stream, number, message[_REQUEST.size :])
            task = asyncio.create_task(answering)
            running.add(task)
            task.add_done_callback(running.discard)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _answer_one(service: Service, stream: Stream, number: int, request: bytes) -> None:
    async def send(message: bytes, last: bool) -> None:
        await stream.send(_REPLY.pack(number, last) + message)

    # A caller that is gone has ended the stream, and one that does not read does so hereby.
    with contextlib.suppress(StreamError, TimeoutError):
        await service.serve(request, send)


class StreamCaller:
    """A :class:`~constellation_core.consensus.remote.Caller` over gossip's streams.

    Args:
        streams: this node's.
        member: the node of a voter, by the voter's id; ``None`` for one that is not known.
    """

    def __init__(self, streams: StreamEndpoint, member: Callable[[str], Member | None]) -> None:
        self._streams = streams
        self._member = member
        self._connections: dict[str, _Connection] = {}
        self._closed = False

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Sequence[bytes]:
        """As :meth:`~constellation_core.consensus.remote.Caller.call`."""
        connection = self._connections.get(voter)
        if connection is None or connection.over:
            member = None if self._closed else self._member(voter)
            if member is None:
                raise NotReachedError(f"no node is known that is voter {voter}")
            connection = _Connection(self._streams, member)
            self._connections[voter] = connection
            connection.task.add_done_callback(lambda _: self._forget(voter, connection))
        try:
            return await connection.call(request, timeout)
        except _SilentError as error:
            # It may be another process that answers there now, or none.
            self._forget(voter, connection)
            connection.task.cancel()
            raise LostError(str(error)) from None

    async def close(self) -> None:
        """Close all connections; calls that are under way fail, and later ones too."""
        self._closed = True
        tasks = [connection.task for connection in self._connections.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, voter: str, connection: _Connection) -> None:
        if self._connections.get(voter) is connection:
            del self._connections[voter]


class _SilentError(LostError):
    """Nothing came on the connection for as long as there was time."""


class _Call:
    """What has come of a reply so far."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.size = 0
        self.whole = False
        self.news = asyncio.Event()


class _Connection:
    """A stream that calls share.

    Attributes:
        task: runs it; ends when nobody uses it for a while, or the stream fails.
    """

    def __init__(self, streams: StreamEndpoint, member: Member) -> None:
        self._streams = streams
        self._member = member
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._opened = asyncio.Event()
        self._stream: Stream | None = None
        self._failure: Exception | None = None
        self._received = 0
        self.task = asyncio.create_task(self._run(), name=f"consensus on {member.name}")

    @property
    def over(self) -> bool:
        """Whether it takes no more calls."""
        return self._failure is not None

    async def call(self, request: bytes, timeout: float) -> Sequence[bytes]:
        """One call; raises as the caller's."""
        if len(self._calls) >= AT_ONCE:
            raise NotReachedError(f"{AT_ONCE} calls to {self._member.name} are under way")
        end = asyncio.get_running_loop().time() + timeout
        number, call = next(self._numbers), _Call()
        # From here on the connection is in use.
        self._calls[number] = call
        try:
            stream = await self._ready(min(CONNECT, timeout))
            await self._exchange(stream, _REQUEST.pack(number) + request, call, end)
        finally:
            del self._calls[number]
        return call.messages

    async def _ready(self, limit: float) -> Stream:
        try:
            async with asyncio.timeout(limit):
                await self._opened.wait()
        except TimeoutError:
            reason = f"no connection to {self._member.name} within {limit:g} s"
            raise NotReachedError(reason) from None
        if self._stream is None or self._failure is not None:
            raise NotReachedError(str(self._failure))
        return self._stream

    async def _exchange(self, stream: Stream, request: bytes, call: _Call, end: float) -> None:
        loop = asyncio.get_running_loop()
        received = self._received
        try:
            async with asyncio.timeout_at(end) as scope:
                await stream.send(request)
                while not call.whole:
                    await call.news.wait()
                    call.news.clear()
                    if self._failure is not None and not call.whole:
                        raise _failed(self._failure)
                    scope.reschedule(max(end, loop.time() + PATIENCE))
        except StreamError as error:
            raise _failed(error) from None
        except TimeoutError:
            if self._received == received:
                raise _SilentError(f"{self._member.name} says nothing") from None
            raise LostError(f"no reply of {self._member.name} in time") from None

    async def _run(self) -> None:
        failure: Exception = ConnectionError(f"the connection to {self._member.name} was given up")
        most = _REPLY.size + MAX_MESSAGE
        try:
            async with self._streams.open(self._member, SERVICE, message=most) as stream:
                self._stream = stream
                self._opened.set()
                await self._receive(stream)
        except StreamError as error:
            failure = error
        finally:
            self._failure = failure
            self._opened.set()
            for call in self._calls.values():
                call.news.set()

    async def _receive(self, stream: Stream) -> None:
        """Hand out what comes, until nothing does or it makes no sense."""
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    message = await stream.receive()
            except StreamError:
                raise
            except TimeoutError:
                if self._calls:
                    continue
                return
            if message is None or len(message) < _REPLY.size:
                return
            self._received += 1
            number, last = _REPLY.unpack_from(message)
            call = self._calls.get(number)
            if call is None:
                # It was given up.
                continue
            call.messages.append(message[_REPLY.size :])
            call.size += len(message)
            call.whole = last
            call.news.set()
            if call.size > MAX_REPLY:
                return


def _failed(error: Exception) -> NotReachedError | LostError:
    """What the end of a stream says of a call that was on it."""
    rejected = isinstance(error, RemoteRejectionError) and error.code == _NOT_A_VOTER
    if rejected or isinstance(error, StreamRefusedError):
        return NotReachedError(str(error))
    return LostError(str(error))
