"""Opens streams to other nodes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.keyring import DecryptError
from constellation_core.gossip.member import Member
from constellation_core.gossip.messages import DecodeError, ErrorReply
from constellation_core.gossip.rpc.channel import Channel, Terms, keepalive
from constellation_core.gossip.rpc.failures import (
    PeerUnreachableError,
    StreamDamagedError,
    StreamError,
    StreamRefusedError,
    StreamTimeoutError,
)
from constellation_core.gossip.rpc.frames import FrameKey, FrameReader, FrameWriter
from constellation_core.gossip.rpc.keys import KeyExchange, KeyExchangeError
from constellation_core.gossip.rpc.opening import (
    HIGHEST_VERSION,
    LOWEST_VERSION,
    StreamAnswer,
    StreamOpen,
)
from constellation_core.gossip.rpc.settings import Peer, StreamInfo, StreamSettings, StreamStats
from constellation_core.gossip.rpc.stream import Stream
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.wire import read_message, write_message

_OTHER_KEY = "compare the fingerprints that `constellation status` shows on both nodes"
_NO_STREAMS = "it is overloaded, or no agent of Constellation, or an older one"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        member: of whom.
        service: what.
        versions: of the service that the caller knows, one byte each.
        message: the largest message that it accepts, in bytes.
        timeout: seconds for all of it; ``None`` for no end.
    """

    member: Member
    service: str
    versions: bytes
    message: int
    timeout: float | None

    def error(
        self, kind: type[StreamError], reason: str, hint: str = "", code: str = ""
    ) -> StreamError:
        """An error about this request."""
        return kind(self.member.name, self.member.address, self.service, reason, hint, code)

    def refused(self, code: str, reason: str, hint: str = "") -> StreamError:
        """The peer gives no such stream."""
        return self.error(StreamRefusedError, reason, hint, code)


class StreamClient:
    """The outgoing streams of one node.

    Args:
        name: of this node.
        settings, stats: of this node's streams.
    """

    def __init__(self, name: str, settings: StreamSettings, stats: StreamStats) -> None:
        self._name = name
        self._settings = settings
        self._stats = stats
        self._open: set[Stream] = set()

    @asynccontextmanager
    async def open(self, request: Request, envelope: Envelope) -> AsyncIterator[Stream]:
        """A stream for as long as the block runs; see ``StreamEndpoint.open``."""
        scope = asyncio.timeout(request.timeout)
        try:
            async with scope:
                stream = await self._connect(request, envelope)
                self._open.add(stream)
                self._stats.opened += 1
                self._stats.outgoing += 1
                try:
                    yield stream
                finally:
                    stream.close()
                    self._open.discard(stream)
                    self._stats.outgoing -= 1
        except TimeoutError as error:
            if not scope.expired() or isinstance(error, StreamTimeoutError):
                raise
            reason = f"it was not done within {request.timeout:g} s"
            raise request.error(StreamTimeoutError, reason) from None

    def abort(self) -> None:
        """Cut all connections; who uses a stream gets an error."""
        for stream in self._open:
            stream.abort()

    # --- inside ------------------------------------------------------------------------------

    async def _connect(self, request: Request, envelope: Envelope) -> Stream:
        host, port = request.member.address
        limit = self._settings.connect_timeout
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if scope.expired():
                reason = f"no connection within {limit:g} s: it is down or cut off"
                raise request.error(PeerUnreachableError, reason) from None
            reason = os.strerror(error.errno) if error.errno else str(error)
            reason = f"no connection: {reason[:1].lower()}{reason[1:]}"
            raise request.error(PeerUnreachableError, reason) from None
        try:
            return await self._shake_hands(request, (reader, writer), envelope)
        except BaseException:
            writer.transport.abort()
            raise

    async def _shake_hands(
        self,
        request: Request,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        envelope: Envelope,
    ) -> Stream:
        exchange = KeyExchange(envelope.keyring, envelope.label)
        ring = envelope.keyring
        fingerprint = ring.fingerprint if ring is not None else ""
        question = StreamOpen(
            LOWEST_VERSION,
            HIGHEST_VERSION,
            request.service,
            request.versions,
            self._name,
            request.member.name,
            fingerprint,
            exchange.public,
            request.message,
            int(self._settings.silence * 1000),
            max(1, int(request.timeout * 1000)) if request.timeout is not None else 0,
        )
        answer = self._accepted(
            request, question, await self._ask(request, question, connection, envelope)
        )
        try:
            keys = exchange.as_client(fingerprint, answer.public)
        except KeyExchangeError as error:
            raise request.refused("key", str(error)) from None
        loop = asyncio.get_running_loop()
        channel = Channel(
            Terms(
                takes=request.message,
                gives=answer.takes,
                silence=self._settings.silence,
                keepalive=keepalive(answer.silence / 1000),
            ),
            FrameWriter(FrameKey(keys.of_client)),
            FrameReader(FrameKey(keys.of_server)),
            loop.time(),
            client=True,
        )
        deadline = loop.time() + request.timeout if request.timeout is not None else None
        peer = Peer(request.member.name, request.member.address)
        stream = Stream(
            StreamInfo(peer, request.service, answer.service_version, deadline),
            channel,
            connection,
            self._stats,
            linger=self._settings.linger,
            authorized=lambda: ring is None or fingerprint in ring,
        )
        stream.flush()
        stream.start()
        return stream

    async def _ask(
        self,
        request: Request,
        question: StreamOpen,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        envelope: Envelope,
    ) -> StreamMessage:
        reader, writer = connection
        limit = self._settings.connect_timeout
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                self._stats.bytes_out += await write_message(writer, question, envelope)
                answer, size = await read_message(reader, envelope, answer=True)
        except DecryptError as error:
            raise request.refused(
                "key", f"{error}: it has another cluster key", _OTHER_KEY
            ) from None
        except DecodeError as error:
            hint = "it may have another cluster key or label, or be no agent of Constellation"
            raise request.refused("no-streams", f"its answer is none: {error}", hint) from None
        except (asyncio.IncompleteReadError, OSError):
            if scope.expired():
                reason = f"it took the connection, but does not answer within {limit:g} s"
                raise request.error(
                    PeerUnreachableError, reason, "it is paused or overloaded"
                ) from None
            reason = "it closed the connection without an answer: it does not speak streams"
            raise request.refused("no-streams", reason, _NO_STREAMS) from None
        self._stats.bytes_in += size
        return answer

    @staticmethod
    def _accepted(request: Request, question: StreamOpen, answer: StreamMessage) -> StreamAnswer:
        if isinstance(answer, ErrorReply):
            reason = f"it does not speak streams: {answer.error}"
            raise request.refused("no-streams", reason, _NO_STREAMS)
        if not isinstance(answer, StreamAnswer):
            reason = f"it answered with {type(answer).__name__}"
            raise request.refused("no-streams", reason, _NO_STREAMS)
        if answer.asked != question.public:
            raise request.error(StreamDamagedError, "its answer belongs to another question")
        if answer.refusal or not LOWEST_VERSION <= answer.version <= HIGHEST_VERSION:
            raise request.refused(answer.refusal or "version", answer.reason, answer.hint)
        return answer
