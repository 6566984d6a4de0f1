"""Streams of one node, in both directions: what applications use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager

from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.member import Member
from constellation_core.gossip.rpc.client import Request, StreamClient
from constellation_core.gossip.rpc.failures import (
    FailureKind,
    RejectionError,
    StreamDamagedError,
)
from constellation_core.gossip.rpc.opening import StreamOpen
from constellation_core.gossip.rpc.server import Accepted, Handler, Service, StreamServer
from constellation_core.gossip.rpc.settings import (
    LARGEST_MESSAGE,
    ServiceLimits,
    StreamInfo,
    StreamSettings,
    StreamStats,
    check_size,
)
from constellation_core.gossip.rpc.stream import Stream

CallHandler = Callable[[bytes, StreamInfo], Awaitable[bytes]]
_NO_LIMITS = ServiceLimits()


class StreamEndpoint:
    """Serves streams to other nodes, and opens streams to them.

    Args:
        name: of this node.
        envelope: gives the label and the encryption of the cluster.
        settings: limits and times.
    """

    def __init__(
        self, name: str, envelope: Callable[[], Envelope], settings: StreamSettings | None = None
    ) -> None:
        settings = settings or StreamSettings()
        self.stats = StreamStats()
        self._envelope = envelope
        self._server = StreamServer(name, settings, self.stats)
        self._client = StreamClient(name, settings, self.stats)

    # --- for applications --------------------------------------------------------------------

    def serve(
        self,
        service: str,
        handler: Handler,
        *,
        limits: ServiceLimits = _NO_LIMITS,
        versions: Iterable[int] = (1,),
    ) -> Callable[[], None]:
        """Let other nodes open streams to ``handler``.

        The handler's return ends the stream well. When it raises a
        :class:`~constellation_core.gossip.rpc.failures.RejectionError` the caller gets its words;
        whatever else it raises is logged here, and the caller learns only that it failed. It is
        cancelled when the caller gives up, is gone, or the time is over.

        Args:
            service: its name, the same on all nodes.
            handler: called with each stream.
            limits: what it takes.
            versions: of the service that it knows, each from 1 to 255; ``stream.info.version``
                is the highest that the caller knows too.

        Returns:
            What ends the serving; streams that are open go on.

        Raises:
            ValueError: when the name is taken or not good.
        """
        return self._server.serve(service, Service(handler, limits, bytes(versions)))

    def serve_call(
        self,
        service: str,
        handler: CallHandler,
        *,
        limits: ServiceLimits = _NO_LIMITS,
        versions: Iterable[int] = (1,),
    ) -> Callable[[], None]:
        """As :meth:`serve`, for one request and one response."""

        async def handle(stream: Stream) -> None:
            request = await stream.receive()
            if request is None:
                raise RejectionError("no-request", "a call without a request")
            await stream.send(await handler(request, stream.info))

        return self.serve(service, handle, limits=limits, versions=versions)

    def open(
        self,
        member: Member,
        service: str,
        *,
        timeout: float | None = None,
        versions: Iterable[int] = (1,),
        message: int = LARGEST_MESSAGE,
    ) -> AbstractAsyncContextManager[Stream]:
        """Open a stream to a service of another node, for as long as the block runs.

        A block that is left before the peer has finished, for whatever reason, cancels the peer's
        handler.

        Args:
            member: the other node.
            service: the name of the service there.
            timeout: seconds for the whole block; ``None`` for no end, since a peer that is gone
                is noticed in any case.
            versions: of the service that the caller knows.
            message: bytes of the largest message that the caller accepts.

        Raises:
            StreamError: when it is entered, and from the methods of the stream. See the kinds in
                ``failures.py``.
            ValueError: for a limit that is none.
        """
        request = Request(member, service, bytes(versions), check_size(message), timeout)
        return self._client.open(request, self._envelope())

    async def call(
        self,
        member: Member,
        service: str,
        payload: bytes,
        *,
        timeout: float = 10.0,
        versions: Iterable[int] = (1,),
        message: int = LARGEST_MESSAGE,
    ) -> bytes:
        """Send a request to another node's service and wait for the response.

        Arguments are those of :meth:`open`. Cancelling this cancels the handler. An error says
        nothing about whether the request was carried out, unless it is a refusal.

        Raises:
            StreamError: when there is no response.
        """
        async with self.open(
            member, service, timeout=timeout, versions=versions, message=message
        ) as stream:
            await stream.send(payload)
            await stream.end()
            response = await stream.receive()
            if response is None or await stream.receive() is not None:
                stream.fail(FailureKind.DAMAGED, "a call has one response")
                reason = "it did not answer with one message"
                raise StreamDamagedError(member.name, member.address, service, reason)
            return response

    # --- for the driver ----------------------------------------------------------------------

    async def accept(
        self,
        question: StreamOpen,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> Accepted | None:
        """Answer an incoming question; see :meth:`StreamServer.accept`."""
        return await self._server.accept(question, connection, self._envelope())

    async def run(self, accepted: Accepted) -> None:
        """Run the handler of an accepted stream to its end."""
        await self._server.run(accepted)

    async def close(self) -> None:
        """End all streams."""
        self._client.abort()
        await self._server.close()
