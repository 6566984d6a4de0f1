"""Incoming streams: services, who may open how many, and the running of handlers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.member import Address
from constellation_core.gossip.rpc.channel import Channel, Terms, keepalive
from constellation_core.gossip.rpc.failures import FailureKind, RejectionError, StreamError
from constellation_core.gossip.rpc.frames import FrameKey, FrameReader, FrameWriter
from constellation_core.gossip.rpc.keys import KeyExchange, KeyExchangeError
from constellation_core.gossip.rpc.opening import (
    HIGHEST_VERSION,
    LONGEST_SERVICE,
    LOWEST_VERSION,
    StreamAnswer,
    StreamOpen,
    agreed_version,
    highest_common,
)
from constellation_core.gossip.rpc.settings import (
    Peer,
    ServiceLimits,
    StreamInfo,
    StreamSettings,
    StreamStats,
)
from constellation_core.gossip.rpc.stream import Stream
from constellation_core.gossip.sockets import plain_host
from constellation_core.gossip.wire import write_message

log = logging.getLogger("constellation.gossip.streams")

Handler = Callable[[Stream], Awaitable[None]]
_CHUNK = 65_536
_SHUTDOWN = 1.0
"""Seconds that peers have to take notice of the end of this node's streams."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is served under a name."""

    handler: Handler
    limits: ServiceLimits
    versions: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """A stream whose client has proved that it has the key, now."""

    stream: Stream
    service: Service


class StreamServer:
    """The incoming streams of one node.

    Args:
        name: of this node.
        settings, stats: of this node's streams.
    """

    def __init__(self, name: str, settings: StreamSettings, stats: StreamStats) -> None:
        self._name = name
        self._settings = settings
        self._stats = stats
        self._services: dict[str, Service] = {}
        self._running: dict[asyncio.Task[None], Stream] = {}
        self._per_address: Counter[str] = Counter()
        self._per_service: Counter[str] = Counter()
        self._closing = False

    def serve(self, name: str, service: Service) -> Callable[[], None]:
        """Serve under ``name``; returns what ends that. Streams that are open go on.

        Raises:
            ValueError: when the name is taken or too long, or there is no version.
        """
        if name in self._services:
            raise ValueError(f"a stream service {name!r} is there already")
        if not 0 < len(name.encode()) <= LONGEST_SERVICE or not service.versions:
            raise ValueError(
                f"a stream service has a name of 1 to {LONGEST_SERVICE} bytes and a version"
            )
        self._services[name] = service

        def end() -> None:
            self._services.pop(name, None)

        return end

    async def accept(
        self,
        question: StreamOpen,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        envelope: Envelope,
    ) -> Accepted | None:
        """Answer, and wait until the client has proved that it has the key.

        A question may be an old one that somebody repeats; nothing is run for it. The caller
        sets the time limit.

        Raises:
            OSError, asyncio.IncompleteReadError: when the connection is lost.
        """
        reader, writer = connection
        address = _address(writer)
        service = self._services.get(question.service)
        refusal = self._refusal(question, service, address, envelope)
        if service is None or refusal is not None:
            await self._refuse(refusal, writer, envelope)
            return None
        exchange = KeyExchange(envelope.keyring, envelope.label)
        try:
            keys = exchange.as_server(question.key, question.public)
        except KeyExchangeError as error:
            refused = StreamAnswer.refused(question, "key", str(error))
            await self._refuse(refused, writer, envelope)
            return None
        version = highest_common(service.versions, question.versions) or 0
        answer = StreamAnswer(
            question.public,
            agreed_version(question) or 0,
            version,
            exchange.public,
            service.limits.message,
            int(self._settings.silence * 1000),
        )
        self._stats.bytes_out += await write_message(writer, answer, envelope, answer=True)
        now = asyncio.get_running_loop().time()
        channel = Channel(
            Terms(
                takes=service.limits.message,
                gives=question.takes,
                silence=self._settings.silence,
                keepalive=keepalive(question.silence / 1000),
                total=service.limits.total,
            ),
            FrameWriter(FrameKey(keys.of_server)),
            FrameReader(FrameKey(keys.of_client)),
            now,
            client=False,
        )
        while not channel.begun and channel.failure is None:
            data = await reader.read(_CHUNK)
            self._stats.bytes_in += len(data)
            if not data:
                return None
            channel.receive(data, asyncio.get_running_loop().time())
        if not channel.begun:
            self._stats.refused["key"] += 1
            return None
        durations = [
            seconds
            for seconds in (question.deadline / 1000 or None, service.limits.duration)
            if seconds is not None
        ]
        info = StreamInfo(
            Peer(question.source, address),
            question.service,
            version,
            now + min(durations) if durations else None,
        )
        ring = envelope.keyring
        stream = Stream(
            info,
            channel,
            connection,
            self._stats,
            linger=self._settings.linger,
            authorized=lambda: ring is None or question.key in ring,
        )
        return Accepted(stream, service)

    async def run(self, accepted: Accepted) -> None:
        """Run the handler of an accepted stream to its end, and close the connection."""
        task = asyncio.create_task(self._run(accepted.stream, accepted.service))
        self._running[task] = accepted.stream
        task.add_done_callback(self._running.pop)
        # Not awaited itself: asyncio's server reports a cancelled callback as an error.
        await asyncio.wait({task})

    async def close(self) -> None:
        """End all streams, and wait for their handlers."""
        self._closing = True
        for stream in self._running.values():
            stream.fail(FailureKind.STOPPING, "this node stops")
        if self._running:
            await asyncio.wait(set(self._running), timeout=_SHUTDOWN)
        for stream in self._running.values():
            stream.abort()
        if self._running:
            await asyncio.wait(set(self._running))

    # --- inside ------------------------------------------------------------------------------

    async def _run(self, stream: Stream, service: Service) -> None:
        info, stats = stream.info, self._stats
        full = self._full(info.service, service, info.peer.address)
        stats.accepted += 1
        stats.incoming += 1
        self._per_address[info.peer.address[0]] += 1
        self._per_service[info.service] += 1
        try:
            if full or self._closing:
                kind = FailureKind.STOPPING if self._closing else FailureKind.BUSY
                stream.fail(kind, full or "this node stops")
            if stream.channel.failure is not None:
                stream.start()
                stream.flush()
            else:
                work = asyncio.create_task(self._handle(stream, service))
                stream.start(work.cancel)
                await asyncio.wait({work})
            await stream.finish()
        finally:
            stream.close()
            if stream.channel.failure is not None:
                stats.failed[stream.channel.failure.kind.name.lower()] += 1
            stats.incoming -= 1
            self._per_service[info.service] -= 1
            self._per_address[info.peer.address[0]] -= 1
            if not self._per_address[info.peer.address[0]]:
                del self._per_address[info.peer.address[0]]

    async def _handle(self, stream: Stream, service: Service) -> None:
        info = stream.info
        scope = asyncio.timeout_at(info.deadline)
        try:
            async with scope:
                await service.handler(stream)
        except RejectionError as error:
            stream.fail(FailureKind.REJECTED, str(error), error.code, error.hint)
        except Exception as error:
            if scope.expired():
                stream.fail(FailureKind.TIMEOUT, "its time was over before it was done")
            elif isinstance(error, StreamError) and stream.channel.failure is not None:
                log.debug("a stream from %s ended early: %s", info.peer.name, error)
            else:
                log.exception("the handler of %s failed, for %s", info.service, info.peer.name)
                kind = type(error).__name__
                # No more than that: the text of an exception may hold anything.
                stream.fail(FailureKind.FAILED, f"its handler failed with {kind}; see its log")

    def _refusal(
        self, question: StreamOpen, service: Service | None, address: Address, envelope: Envelope
    ) -> StreamAnswer | None:
        def refused(code: str, reason: str, hint: str = "") -> StreamAnswer:
            return StreamAnswer.refused(question, code, reason, hint)

        if question.target != self._name:
            return refused("wrong-node", f"it is {self._name}, not {question.target}")
        if agreed_version(question) is None:
            return refused(
                "version",
                f"it speaks stream versions {LOWEST_VERSION} to {HIGHEST_VERSION}, not "
                f"{question.lowest} to {question.highest}",
                "upgrade the older of both agents",
            )
        if (question.key == "") is not (envelope.keyring is None):
            return refused("key", "only one of both encrypts", "set [gossip] encryption alike")
        if service is None:
            hint = "it may be of another version, or lack a plugin"
            return refused("unknown-service", f"it serves no {question.service!r}", hint)
        if highest_common(service.versions, question.versions) is None:
            ours, theirs = (
                ", ".join(map(str, versions)) for versions in (service.versions, question.versions)
            )
            reason = f"it serves version {ours} of it, not {theirs}"
            return refused("version", reason, "upgrade the older of both agents")
        full = self._full(question.service, service, address)
        return refused("busy", full, "try again later") if full else None

    def _full(self, name: str, service: Service, address: Address) -> str:
        """Why no further stream is taken; empty when there is room."""
        if self._stats.incoming >= self._settings.most:
            return f"it has {self._settings.most} streams open, as many as it takes"
        if self._per_address[address[0]] >= self._settings.most_per_address:
            most = self._settings.most_per_address
            return f"it has {most} streams from {address[0]} open, as many as it takes"
        if self._per_service[name] >= service.limits.concurrent:
            most = service.limits.concurrent
            return f"it has {most} streams of {name} open, as many as it takes"
        return ""

    async def _refuse(
        self, answer: StreamAnswer | None, writer: asyncio.StreamWriter, envelope: Envelope
    ) -> None:
        if answer is not None:
            self._stats.refused[answer.refusal] += 1
            self._stats.bytes_out += await write_message(writer, answer, envelope, answer=True)


def _address(writer: asyncio.StreamWriter) -> Address:
    peername = writer.get_extra_info("peername") or ("", 0)
    return (plain_host(str(peername[0])), int(peername[1]))
