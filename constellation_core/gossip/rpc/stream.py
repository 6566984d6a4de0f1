"""A stream on an asyncio connection: messages in both directions, with backpressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from constellation_core.gossip.rpc.channel import Channel
from constellation_core.gossip.rpc.failures import (
    FailureKind,
    StreamClosedError,
    StreamError,
    StreamLimitError,
    to_error,
)
from constellation_core.gossip.rpc.frames import LARGEST_BODY
from constellation_core.gossip.rpc.settings import StreamInfo, StreamStats

_CHUNK = 65_536


class Stream:
    """Messages to and from a peer. Made by ``open`` on one side, and handed to the handler of
    the service on the other.

    ::

        await stream.send(b"question")
        await stream.end()                  # nothing more to send
        async for message in stream:        # until the peer has ended
            ...

    Several tasks may send at a time, and one may receive.

    Attributes:
        info: the peer, the service, its version and the deadline.
    """

    def __init__(
        self,
        info: StreamInfo,
        channel: Channel,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        stats: StreamStats,
        *,
        linger: float,
        authorized: Callable[[], bool],
    ) -> None:
        self.info = info
        self._channel = channel
        self._reader, self._writer = connection
        self._stats = stats
        self._linger = linger
        self._authorized = authorized
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._sending = asyncio.Lock()
        self._on_failure: Callable[[], object] = lambda: None
        self._told = False
        self._pump: asyncio.Task[None] | None = None

    # --- for the application -----------------------------------------------------------------

    async def send(self, message: bytes) -> None:
        """Send a message; waits while the peer is slower than we are.

        Raises:
            StreamLimitError: when it is larger than the peer takes. Nothing is sent then.
            StreamClosedError: after :meth:`end`, or when the peer has finished.
            StreamError: when the stream fails.
        """
        most = self._channel.terms.gives
        if len(message) > most:
            reason = f"a message of {len(message)} bytes, and it takes at most {most}"
            raise self._error_of(StreamLimitError, reason)
        async with self._sending:
            sent = 0
            try:
                while True:
                    part = message[sent : sent + LARGEST_BODY]
                    await self._wait_for_credit(len(part))
                    sent += len(part)
                    last = sent == len(message)
                    self._channel.send(part, last=last, now=self._loop.time())
                    self.flush()
                    await self._drain()
                    if last:
                        return
            except asyncio.CancelledError:
                if 0 < sent < len(message):
                    # The rest of this message would be missing from all that follow.
                    self.fail(FailureKind.CANCELLED, "a message was given up half way")
                raise

    async def receive(self) -> bytes | None:
        """The next message; ``None`` when the peer has ended.

        Raises:
            StreamError: when the stream fails. Messages that came before are given out first.
        """
        channel = self._channel
        while True:
            if channel.readable:
                message = channel.pop(self._loop.time())
                self.flush()
                return message
            if channel.failure is not None:
                raise self.error()
            if channel.peer_ended:
                return None
            self._readable.clear()
            await self._readable.wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """All messages until the peer ends. Raises as :meth:`receive`."""
        while (message := await self.receive()) is not None:
            yield message

    async def end(self) -> None:
        """Send no more messages; those of the peer still come. Waits until all is on its way.

        Raises:
            StreamError: when the stream has failed.
        """
        async with self._sending:
            self._channel.end(self._loop.time())
            self.flush()
            await self._drain()
        if self._channel.failure is not None:
            raise self.error()

    # --- for those who open, accept and close streams ----------------------------------------

    @property
    def channel(self) -> Channel:
        """The state, for reading."""
        return self._channel

    @property
    def waiting(self) -> int:
        """Bytes that the system has not taken from us yet."""
        return self._writer.transport.get_write_buffer_size()

    def start(self, on_failure: Callable[[], object] = lambda: None) -> None:
        """Begin to read; ``on_failure`` is called when the stream fails."""
        self._on_failure = on_failure
        self._pump = asyncio.create_task(self._read_on())

    def fail(self, kind: FailureKind, reason: str, code: str = "", hint: str = "") -> None:
        """End the stream, and tell the peer why."""
        self._channel.fail(kind, reason, code, hint, now=self._loop.time())
        self.flush()
        self._wake()

    async def finish(self) -> None:
        """Say that all is well, if the stream has not failed, and wait until the peer knows.

        Waits for the time to linger, also after a failure, and longer while a slow network
        still takes what was sent before.
        """
        self._channel.finish(self._loop.time())
        self.flush()
        while self._pump is not None:
            before = self.waiting
            done, _ = await asyncio.wait({self._pump}, timeout=self._linger)
            if done or not 0 < self.waiting < before:
                return

    def close(self) -> None:
        """Let go of the connection; a stream that is not over is cancelled."""
        if not self._channel.over:
            self.fail(FailureKind.CANCELLED, "the caller gave up")
        if self._pump is not None:
            self._pump.cancel()
        transport = self._writer.transport
        self._writer.close()
        if self.waiting:
            # What is left may still go out, but not wait for ever for one who does not read.
            self._loop.call_later(self._linger, transport.abort)

    def abort(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()

    def error(self) -> StreamError:
        """What the failure of this stream raises."""
        failure = self._channel.failure
        if failure is None:
            raise RuntimeError("the stream has not failed")
        peer = self.info.peer
        return to_error(failure, peer.name, peer.address, self.info.service)

    def flush(self) -> None:
        """Hand to the connection what is to be sent."""
        data = self._channel.take_output()
        if data and not self._writer.transport.is_closing():
            self._stats.bytes_out += len(data)
            self._writer.write(data)

    # --- inside ------------------------------------------------------------------------------

    async def _wait_for_credit(self, length: int) -> None:
        while True:
            self._check_sendable()
            if self._channel.may_send(length):
                return
            self._writable.clear()
            await self._writable.wait()

    def _check_sendable(self) -> None:
        if self._channel.failure is not None:
            raise self.error()
        if self._channel.ended:
            raise self._error_of(StreamClosedError, "this side of the stream was ended before")
        if self._channel.peer_done:
            raise self._error_of(StreamClosedError, "it has finished, and takes nothing more")

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            self._channel.receive_eof()
        if self._channel.failure is not None:
            raise self.error()

    def _error_of(self, kind: type[StreamError], reason: str) -> StreamError:
        peer = self.info.peer
        return kind(peer.name, peer.address, self.info.service, reason)

    async def _read_on(self) -> None:
        channel = self._channel
        check_at = self._loop.time() + channel.terms.keepalive
        try:
            while not channel.eof:
                await self._read_once(channel.next_deadline())
                if self._loop.time() >= check_at:
                    check_at += channel.terms.keepalive
                    self._check_key()
                self.flush()
                self._wake()
        finally:
            channel.receive_eof()
            self._wake()

    def _check_key(self) -> None:
        if not self._authorized():
            self.fail(FailureKind.STOPPING, "the key that this stream was opened with was removed")

    async def _read_once(self, until: float | None) -> None:
        """Read what is there, or wait for something until then."""
        scope = asyncio.timeout_at(until)
        try:
            async with scope:
                data = await self._reader.read(_CHUNK)
        except OSError:
            # A connection can time out as well, by the system's own count.
            if not scope.expired():
                self._channel.receive_eof()
            else:
                self._channel.on_time(self._loop.time())
            return
        if data:
            self._stats.bytes_in += len(data)
            self._channel.receive(data, self._loop.time())
        else:
            self._channel.receive_eof()

    def _wake(self) -> None:
        self._readable.set()
        self._writable.set()
        failure = self._channel.failure
        if failure is None or self._told:
            return
        self._told = True
        self._on_failure()
        # Who waits for room in the connection's buffer is woken by the abort. It comes late:
        # to close with something unread could take from the peer what was said last.
        wait = self._linger if failure.kind < FailureKind.GONE else 0.0
        self._loop.call_later(wait, self.abort)
