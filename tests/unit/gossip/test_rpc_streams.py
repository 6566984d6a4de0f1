"""Streams between nodes on real sockets of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from constellation_core.gossip import (
    Gossip,
    GossipConfig,
    Keyring,
    Member,
    PeerGoneError,
    PeerUnreachableError,
    RejectionError,
    RemoteFailureError,
    RemoteRejectionError,
    ServiceLimits,
    Stream,
    StreamClosedError,
    StreamDamagedError,
    StreamError,
    StreamInfo,
    StreamLimitError,
    StreamRefusedError,
    StreamSettings,
    StreamTimeoutError,
)
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.rpc.channel import window
from constellation_core.gossip.rpc.frames import LARGEST_BODY
from constellation_core.gossip.rpc.settings import LARGEST_MESSAGE
from constellation_core.gossip.sockets import bind
from constellation_core.gossip.wire import read_message
from constellation_core.testing.waiting import until_so

KEY = b"k" * 32
pytestmark = pytest.mark.timeout(120)

IMPATIENT = StreamSettings(connect_timeout=1.0, silence=1.0, linger=0.3)


async def reverse(request: bytes, _info: StreamInfo) -> bytes:
    return request[::-1]


async def for_ever(_stream: Stream) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def node(
    name: str,
    *,
    keyring: Keyring | None = None,
    encrypted: bool = True,
    label: str = "",
    settings: StreamSettings | None = None,
    host: str = "127.0.0.1",
    exchange_timeout: float = 10.0,
) -> AsyncIterator[Gossip]:
    ring = (keyring or Keyring([KEY])) if encrypted else None
    config = GossipConfig(name, label=label, exchange_timeout=exchange_timeout)
    gossip = Gossip(config, bind=(host, 0), keyring=ring, streams=settings)
    await gossip.start()
    gossip.streams.serve_call("reverse", reverse)
    try:
        yield gossip
    finally:
        await gossip.close()


@asynccontextmanager
async def two(
    settings: StreamSettings | None = None,
) -> AsyncIterator[tuple[Gossip, Gossip, Member]]:
    async with node("a", settings=settings) as a, node("b", settings=settings) as b:
        yield a, b, b.local


class Cancelled:
    """A handler that waits for ever, and says when it was started and cancelled."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, _stream: Stream) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Proxy:
    """Stands between a client and a server, and does what a bad network may do.

    Attributes:
        to_server, to_client: all that went through, before it was changed.
        change: what becomes of a piece for the server.
    """

    def __init__(self, target: Member) -> None:
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.to_server = b""
        self.to_client = b""
        self.change: Callable[[bytes], bytes] = lambda data: data
        self.change_back: Callable[[bytes], bytes] = lambda data: data
        self.member = target

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        address = self._server.sockets[0].getsockname()
        self.member = replace(self._target, address=(address[0], address[1]))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target.address)
        for coroutine in (
            self._forward(reader, far_writer, to_server=True),
            self._forward(far_reader, writer, to_server=False),
        ):
            task = asyncio.create_task(coroutine)
            self._tasks.add(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if to_server:
                    self.to_server += data
                    data = self.change(data)
                else:
                    self.to_client += data
                    data = self.change_back(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


# --- what is promised ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("label", ["", "prod"])
@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_call_is_answered(host: str, label: str, encrypted: bool) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    async with (
        node("a", encrypted=encrypted, label=label, host=host) as a,
        node("b", encrypted=encrypted, label=label, host=host) as b,
    ):
        for request in (b"", b"hello", bytes(range(256)) * 4096):
            assert await a.streams.call(b.local, "reverse", request) == request[::-1]
        await until_so(lambda: b.streams.stats.incoming == 0, 10, "the end of all streams")
        assert b.streams.stats.accepted == 3
        assert not b.streams.stats.failed


async def test_what_is_said_is_not_on_the_wire() -> None:
    async with two() as (a, _, member), Proxy(member) as proxy:
        assert await a.streams.call(proxy.member, "reverse", b"secret words" * 10)
        for recorded in (proxy.to_server, proxy.to_client[::-1]):
            assert len(recorded) > 120
            for word in (b"secret", b"terces", b"reverse"):
                assert word not in recorded


async def test_thousands_of_small_messages_in_both_directions() -> None:
    async def echo(stream: Stream) -> None:
        async for message in stream:
            await stream.send(message)

    async with two() as (a, b, member):
        b.streams.serve("echo", echo)
        sent = [b"%d" % number for number in range(20_000)]
        async with a.streams.open(member, "echo") as stream:

            async def send_all() -> None:
                for message in sent:
                    await stream.send(message)
                await stream.end()

            sending = asyncio.create_task(send_all())
            got = [message async for message in stream]
            await sending
        assert got == sent


async def test_many_calls_at_once() -> None:
    async with two() as (a, _, member):
        calls = [a.streams.call(member, "reverse", b"%d" % n) for n in range(60)]
        assert await asyncio.gather(*calls) == [str(n)[::-1].encode() for n in range(60)]


async def test_the_handler_knows_who_asks_and_until_when() -> None:
    seen: list[StreamInfo] = []

    async def note(_request: bytes, info: StreamInfo) -> bytes:
        seen.append(info)
        return b""

    async with two() as (a, b, member):
        b.streams.serve_call("note", note, limits=ServiceLimits(duration=50))
        loop = asyncio.get_running_loop()
        await a.streams.call(member, "note", b"", timeout=20)
        async with a.streams.open(member, "note") as stream:
            assert stream.info.peer.name == "b"
            await stream.send(b"")
            await stream.receive()
        assert [(each.peer.name, each.peer.address[0]) for each in seen] == [("a", "127.0.0.1")] * 2
        deadlines = [each.deadline for each in seen]
        assert None not in deadlines
        assert [
            loop.time() + 15 < each < loop.time() + most
            for each, most in zip(deadlines, (20, 50), strict=True)
            if each
        ] == [True, True]


@pytest.mark.parametrize(
    ("served", "known", "chosen"), [([1, 2], [2, 3, 1], 2), ([7], [7], 7), ([1], [1, 9], 1)]
)
async def test_the_highest_common_version_of_a_service_is_used(
    served: list[int], known: list[int], chosen: int
) -> None:
    async def version(_request: bytes, info: StreamInfo) -> bytes:
        return bytes((info.version,))

    async with two() as (a, b, member):
        b.streams.serve_call("version", version, versions=served)
        assert await a.streams.call(member, "version", b"", versions=known) == bytes((chosen,))


# --- backpressure ----------------------------------------------------------------------------


async def test_a_slow_reader_slows_its_sender_down_and_nothing_else() -> None:
    sent = 0

    async def flood(stream: Stream) -> None:
        nonlocal sent
        for _ in range(3_000):
            await stream.send(bytes(10_000))
            sent += 1

    async with two(IMPATIENT) as (a, b, member):
        b.streams.serve("flood", flood)
        async with a.streams.open(member, "flood") as stream:
            await until_so(lambda: stream.channel.kept > LARGEST_MESSAGE, 20, "a full window")
            most = window(LARGEST_MESSAGE) // 10_000
            # Longer than a peer may be silent: it is there, it only waits.
            waited_from = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < waited_from + 2:
                assert await a.streams.call(member, "reverse", b"ab") == b"ba"
                await asyncio.sleep(0.05)
                assert sent <= most
                assert stream.channel.kept <= window(LARGEST_MESSAGE)
            count = 0
            async for message in stream:
                assert len(message) == 10_000
                count += 1
            assert count == 3_000


async def test_cancellation_reaches_a_handler_whose_messages_nobody_reads() -> None:
    ended = asyncio.Event()

    async def flood(stream: Stream) -> None:
        try:
            while True:
                await stream.send(bytes(10_000))
        finally:
            ended.set()

    async with two() as (a, b, member):
        b.streams.serve("flood", flood)
        async with a.streams.open(member, "flood") as stream:
            await until_so(lambda: stream.channel.kept > LARGEST_MESSAGE, 20, "a full window")
        await ended.wait()


async def test_a_handler_that_does_not_read_holds_its_client_back_until_it_ends() -> None:
    enough = asyncio.Event()

    async def ignore(_stream: Stream) -> None:
        await enough.wait()

    async with two() as (a, b, member):
        b.streams.serve("ignore", ignore)
        async with a.streams.open(member, "ignore") as stream:

            async def send_until_full() -> None:
                for _ in range(100_000):
                    await stream.send(bytes(60_000))
                    if not stream.channel.may_send(60_000):
                        enough.set()

            with pytest.raises(StreamClosedError, match="finished"):
                await send_until_full()
            assert await stream.receive() is None


# --- time ------------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_is_given_up_on_both_sides() -> None:
    handler = Cancelled()
    async with two() as (a, b, member):
        b.streams.serve("slow", handler)
        with pytest.raises(StreamTimeoutError, match=r"slow on b \(127.0.0.1:\d+\): .* 0.3 s"):
            await a.streams.call(member, "slow", b"", timeout=0.3)
        await handler.cancelled.wait()


async def test_a_service_limits_how_long_a_stream_lasts() -> None:
    async with two() as (a, b, member):
        b.streams.serve("brief", for_ever, limits=ServiceLimits(duration=0.2))
        with pytest.raises(StreamTimeoutError, match="time was over"):
            await a.streams.call(member, "brief", b"")
        await until_so(lambda: b.streams.stats.failed == {"timeout": 1}, 10, "one failure")


async def test_a_time_limit_of_the_block_itself_stays_its_own() -> None:
    async with two() as (a, b, member):
        b.streams.serve("wait", for_ever)
        with pytest.raises(TimeoutError) as caught:
            async with a.streams.open(member, "wait", timeout=50):
                raise TimeoutError("of the block")
        assert not isinstance(caught.value, StreamError)


async def test_a_quiet_stream_stays_open() -> None:
    released = asyncio.Event()

    async def quiet(stream: Stream) -> None:
        await released.wait()
        await stream.send(b"at last")

    async with two(IMPATIENT) as (a, b, member):
        b.streams.serve("quiet", quiet)
        async with a.streams.open(member, "quiet") as stream:
            asyncio.get_running_loop().call_later(3, released.set)
            assert await stream.receive() == b"at last"


async def test_a_peer_that_is_paused_or_cut_off_is_noticed_by_both() -> None:
    handler = Cancelled()
    async with two(IMPATIENT) as (a, b, member), Proxy(member) as proxy:
        b.streams.serve("wait", handler)
        async with a.streams.open(proxy.member, "wait") as stream:
            await handler.started.wait()
            proxy.pause()
            with pytest.raises(PeerGoneError, match="paused or cut off"):
                await stream.receive()
            await handler.cancelled.wait()
        await until_so(lambda: b.streams.stats.failed == {"silent": 1}, 10, "one failure")


async def test_a_sender_to_a_paused_peer_is_woken() -> None:
    async with two(IMPATIENT) as (a, b, member), Proxy(member) as proxy:
        b.streams.serve("wait", for_ever, limits=ServiceLimits(message=64 << 20))
        async with a.streams.open(proxy.member, "wait") as stream:
            proxy.pause()
            with pytest.raises(PeerGoneError):
                # More than the system takes in for a peer that does not read.
                await stream.send(bytes(60 << 20))


async def test_a_connection_that_is_never_answered_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with two(IMPATIENT) as (a, _, member):
            address = silent.getsockname()
            with pytest.raises(PeerUnreachableError, match="paused or overloaded"):
                await a.streams.call(replace(member, address=address), "reverse", b"")


async def test_a_node_that_is_down_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    async with two() as (a, _, member):
        with pytest.raises(PeerUnreachableError, match=r"reverse on b .*: no connection: .*refuse"):
            await a.streams.call(replace(member, address=address), "reverse", b"")


async def test_a_node_that_stops_ends_its_streams() -> None:
    handler = Cancelled()
    async with node("a") as a:
        async with node("b") as b:
            b.streams.serve("wait", handler)
            member = b.local

            async def call() -> None:
                with pytest.raises(PeerGoneError, match="stops"):
                    await a.streams.call(member, "wait", b"")

            calling = asyncio.create_task(call())
            await handler.started.wait()
        await calling
        assert handler.cancelled.is_set()


async def test_closing_ends_the_streams_that_were_opened_here() -> None:
    handler = Cancelled()
    async with node("b") as b:
        b.streams.serve("wait", handler)
        async with node("a") as a:
            calling = asyncio.create_task(a.streams.call(b.local, "wait", b""))
            await handler.started.wait()
        with pytest.raises(PeerGoneError):
            await calling
        await handler.cancelled.wait()


async def test_who_does_not_prove_in_time_to_have_the_key_is_closed() -> None:
    async with node("a", exchange_timeout=0.3) as a:
        question = await _question(a.local)
        reader, writer = await asyncio.open_connection(*a.local.address)
        writer.write(question)
        envelope = Envelope(Keyring([KEY]))
        await read_message(reader, envelope)
        assert await reader.read() == b""
        writer.close()
        assert a.streams.stats.accepted == 0


async def _question(member: Member) -> bytes:
    """What a client of ``member`` says first, as somebody on the way sees it."""
    async with node("x") as x:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            address = listener.getsockname()
            asked = replace(member, address=address)
            call = asyncio.create_task(x.streams.call(asked, "reverse", b""))
            loop = asyncio.get_running_loop()
            connection, _ = await loop.sock_accept(listener)
            with connection:
                data = await loop.sock_recv(connection, 65_536)
            with contextlib.suppress(StreamError):
                await call
            return data


# --- limits ----------------------------------------------------------------------------------


async def test_messages_and_streams_are_limited() -> None:
    async def count(stream: Stream) -> None:
        total = 0
        async for message in stream:
            total += len(message)
        await stream.send(b"%d" % total)

    async with two() as (a, b, member):
        b.streams.serve("count", count, limits=ServiceLimits(message=1000, total=2500))
        assert await a.streams.call(member, "count", bytes(1000)) == b"1000"
        with pytest.raises(StreamLimitError, match="1001 bytes, and it takes at most 1000"):
            await a.streams.call(member, "count", bytes(1001))
        async with a.streams.open(member, "count") as stream:
            for _ in range(3):
                await stream.send(bytes(1000))
            with pytest.raises(StreamLimitError, match="2500"):
                await stream.receive()
        # An answer that is larger than its caller takes is the handler's failure.
        with pytest.raises(RemoteFailureError, match="StreamLimitError"):
            await a.streams.call(member, "reverse", bytes(100), message=10)


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        (StreamSettings(most=2), ServiceLimits()),
        (StreamSettings(most_per_address=2), ServiceLimits()),
        (StreamSettings(), ServiceLimits(concurrent=2)),
    ],
)
async def test_so_many_streams_and_no_more(settings: StreamSettings, limits: ServiceLimits) -> None:
    async with two(settings) as (a, b, member):
        b.streams.serve("wait", for_ever, limits=limits)
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(a.streams.open(member, "wait"))
            await until_so(lambda: b.streams.stats.incoming == 2, 10, "two streams")
            with pytest.raises(StreamRefusedError, match="2 streams") as caught:
                await a.streams.call(member, "wait", b"")
            assert caught.value.code == "busy"
        await until_so(lambda: b.streams.stats.incoming == 0, 10, "the end of both")
        assert await a.streams.call(member, "reverse", b"ab") == b"ba"
        async with a.streams.open(member, "wait"):
            pass


async def test_when_many_come_at_once_the_limit_holds_too() -> None:
    most = 0

    async def wait(_stream: Stream) -> None:
        nonlocal most
        most = max(most, b.streams.stats.incoming)
        await asyncio.sleep(0.2)

    async with two() as (a, b, member):
        b.streams.serve("wait", wait, limits=ServiceLimits(concurrent=3))

        async def call() -> str:
            try:
                async with a.streams.open(member, "wait") as stream:
                    await stream.receive()
            except StreamRefusedError as error:
                return error.code
            return "done"

        outcomes = await asyncio.gather(*(call() for _ in range(20)))
        assert set(outcomes) == {"done", "busy"}
        assert outcomes.count("done") >= 3


async def test_open_streams_take_no_place_from_the_gossip() -> None:
    settings = StreamSettings(most=200, most_per_address=200)
    limits = ServiceLimits(concurrent=200)
    async with two(settings) as (a, b, member), AsyncExitStack() as stack:
        b.streams.serve("wait", for_ever, limits=limits)
        for _ in range(140):
            await stack.enter_async_context(a.streams.open(member, "wait"))
        await until_so(lambda: b.streams.stats.incoming == 140, 20, "all streams")
        (result,) = await a.join([f"127.0.0.1:{member.address[1]}"])
        assert result.joined


# --- failing ---------------------------------------------------------------------------------


async def test_a_handler_that_raises_is_logged_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_request: bytes, _info: StreamInfo) -> bytes:
        raise ValueError("password=hunter2")

    async with two() as (a, b, member):
        b.streams.serve_call("fail", fail)
        with caplog.at_level(logging.ERROR), pytest.raises(RemoteFailureError) as caught:
            await a.streams.call(member, "fail", b"")
        assert "ValueError" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert "Traceback" not in str(caught.value)
        (record,) = caplog.records
        assert record.exc_info is not None
        assert "fail" in record.getMessage()
        caplog.clear()


async def test_a_handler_may_say_no_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_stream: Stream) -> None:
        raise RejectionError("not-the-leader", "the leader is c", "ask c")

    async with two() as (a, b, member):
        b.streams.serve("write", refuse)
        with pytest.raises(RemoteRejectionError) as caught:
            await a.streams.call(member, "write", b"")
        error = caught.value
        assert (error.code, error.reason, error.hint, error.peer, error.service) == (
            "not-the-leader",
            "the leader is c",
            "ask c",
            "b",
            "write",
        )
        assert str(error).endswith("the leader is c; ask c")
        assert not caplog.records


async def test_what_was_sent_before_a_failure_arrives_before_it() -> None:
    async def two_and_a_failure(stream: Stream) -> None:
        await stream.send(b"1")
        await stream.send(b"2")
        raise RejectionError("enough", "no more")

    async with two() as (a, b, member):
        b.streams.serve("some", two_and_a_failure)
        async with a.streams.open(member, "some") as stream:
            await until_so(lambda: stream.channel.failure, 10, "the failure")
            assert [await stream.receive() for _ in range(2)] == [b"1", b"2"]
            with pytest.raises(RemoteRejectionError):
                await stream.receive()


async def test_what_a_handler_said_last_arrives_over_a_slow_network_too() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def flood_and_give_up(stream: Stream) -> None:
        started.set()
        await go_on.wait()
        flood = asyncio.create_task(stream.send(bytes(60 << 20)))
        # More than the system takes in for a network that carries nothing.
        await until_so(lambda: stream.waiting > LARGEST_BODY, 20, "a full connection")
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)

    async with two() as (a, b, member), Proxy(member) as proxy:
        b.streams.serve("flood", flood_and_give_up)
        async with a.streams.open(proxy.member, "flood", message=64 << 20) as stream:
            await started.wait()
            proxy.pause()
            go_on.set()
            await until_so(lambda: b.streams.stats.failed or _failing(b), 20, "the failure")
            proxy.resume()
            with pytest.raises(PeerGoneError, match="half way"):
                await stream.receive()


def _failing(node: Gossip) -> bool:
    running = node.streams._server._running.values()
    return any(stream.channel.failure is not None for stream in running)


@pytest.mark.parametrize("way", ["cancel", "leave", "raise"])
async def test_a_caller_that_gives_up_cancels_the_handler(way: str) -> None:
    handler = Cancelled()
    async with two() as (a, b, member):
        b.streams.serve("wait", handler)

        async def use() -> None:
            async with a.streams.open(member, "wait"):
                await handler.started.wait()
                if way == "cancel":
                    await asyncio.Event().wait()
                if way == "raise":
                    raise KeyError

        task = asyncio.create_task(use())
        await handler.started.wait()
        if way == "cancel":
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(
            outcome, {"cancel": asyncio.CancelledError, "raise": KeyError, "leave": type(None)}[way]
        )
        await handler.cancelled.wait()
        await until_so(lambda: b.streams.stats.incoming == 0, 10, "the end of the stream")
        assert b.streams.stats.failed == {"cancelled": 1}


async def test_a_message_that_is_given_up_half_way_spoils_its_stream_only() -> None:
    got: list[bytes] = []

    async def slow(stream: Stream) -> None:
        got.append(await stream.receive() or b"")
        await asyncio.Event().wait()

    async with two() as (a, b, member):
        b.streams.serve("slow", slow)
        async with a.streams.open(member, "slow") as stream:
            await stream.send(b"whole")
            await until_so(lambda: got, 10, "the first message")
            for _ in range(6):
                await stream.send(bytes(60_000))
            sending = asyncio.create_task(stream.send(bytes(LARGEST_MESSAGE)))
            await until_so(lambda: not stream.channel.may_send(LARGEST_BODY), 10, "a full window")
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            with pytest.raises(StreamError):
                await stream.send(b"more")
        assert got == [b"whole"]


async def test_nothing_is_sent_after_the_end() -> None:
    async with two() as (a, _, member), a.streams.open(member, "reverse") as stream:
        await stream.send(b"ab")
        await stream.end()
        await stream.end()
        with pytest.raises(StreamClosedError):
            await stream.send(b"cd")
        assert [message async for message in stream] == [b"ba"]
        assert await stream.receive() is None


@pytest.mark.parametrize("messages", [0, 2])
async def test_a_call_has_one_answer(messages: int) -> None:
    async def several(stream: Stream) -> None:
        for _ in range(messages):
            await stream.send(b"")

    async with two() as (a, b, member):
        b.streams.serve("several", several)
        with pytest.raises(StreamDamagedError, match="one message"):
            await a.streams.call(member, "several", b"")


async def test_names_of_services_are_unique_and_can_be_given_back() -> None:
    async with two() as (a, b, member):
        end = b.streams.serve("once", for_ever)
        with pytest.raises(ValueError, match="once"):
            b.streams.serve("once", for_ever)
        end()
        end()
        with pytest.raises(StreamRefusedError, match="'once'"):
            await a.streams.call(member, "once", b"")
        with pytest.raises(ValueError, match="up to"):
            ServiceLimits(message=1 << 40)
        with pytest.raises(ValueError, match="up to"):
            a.streams.open(member, "once", message=-1)
        for name, versions in (("", [1]), ("x" * 65, [1]), ("none", [])):
            with pytest.raises(ValueError, match="name of 1 to 64"):
                b.streams.serve(name, for_ever, versions=versions)


# --- strangers -------------------------------------------------------------------------------


async def _refused(caller: Gossip, member: Member, service: str = "reverse") -> StreamRefusedError:
    with pytest.raises(StreamRefusedError) as caught:
        await caller.streams.call(member, service, b"secret")
    assert "secret" not in str(caught.value)
    return caught.value


async def test_only_those_with_the_clusters_key_and_label_are_served() -> None:
    ours = [node("a"), node("plain", encrypted=False), node("labelled", label="prod")]
    theirs = [
        node("b", keyring=Keyring([b"x" * 32])),
        node("plain-too", encrypted=False, label="test"),
        node("other-label", label="test"),
    ]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(each) for each in ours]
        callers = [await stack.enter_async_context(each) for each in theirs]
        callers += servers
        for server in servers:
            for caller in callers:
                if caller is not server:
                    error = await _refused(caller, server.local)
                    assert error.code in ("key", "no-streams"), str(error)
            assert server.streams.stats.accepted == 0
    async with node("a") as a, node("b", keyring=Keyring([b"x" * 32])) as b:
        error = await _refused(b, a.local)
        assert error.code == "key"
        assert "another cluster key" in str(error)


async def test_a_key_that_is_no_longer_primary_is_good_and_a_removed_one_is_not() -> None:
    new = b"n" * 32
    ring, handler = Keyring([new, KEY]), Cancelled()
    async with node("a", settings=IMPATIENT) as a, node("b", keyring=ring) as b:
        b.streams.serve("wait", handler)
        async with node("c", keyring=Keyring([KEY, new]), settings=IMPATIENT) as c:
            async with c.streams.open(b.local, "wait") as stream:
                await handler.started.wait()
                ring.remove(KEY)
                with pytest.raises(PeerGoneError, match="was removed"):
                    await stream.receive()
            await handler.cancelled.wait()
        error = await _refused(a, b.local)
        assert error.code == "key"


async def test_another_node_at_the_address_refuses() -> None:
    async with two() as (a, b, _):
        error = await _refused(a, replace(b.local, name="c"))
        assert (error.code, error.peer) == ("wrong-node", "c")
        assert "it is b, not c" in str(error)


async def test_versions_without_a_common_one_are_refused() -> None:
    async with two() as (a, b, member):
        b.streams.serve("old", for_ever, versions=[1])
        with pytest.raises(StreamRefusedError, match="version 1 of it, not 2, 3") as caught:
            await a.streams.call(member, "old", b"", versions=[2, 3])
        assert caught.value.code == "version"
        assert b.streams.stats.refused == {"version": 1}


async def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # As memberlist does with a type that it does not know.
    await reader.read(100)
    writer.close()


async def _answers_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("server", [_closes, _answers_nonsense])
async def test_a_peer_without_streams_is_said_to_have_none(
    server: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    encrypted: bool,
) -> None:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    async with listening, node("a", encrypted=encrypted) as a:
        address = listening.sockets[0].getsockname()
        error = await _refused(a, replace(a.local, name="b", address=address))
        assert error.code in ("no-streams", "key")


async def test_frames_that_are_changed_on_the_way_are_refused_by_either_side() -> None:
    got: list[bytes] = []

    async def note(stream: Stream) -> None:
        async for message in stream:
            got.append(message)
            await stream.send(b"noted")

    def flip(data: bytes) -> bytes:
        return data[:-1] + bytes((data[-1] ^ 1,))

    async with two() as (a, b, member):
        b.streams.serve("note", note)
        async with Proxy(member) as proxy, a.streams.open(proxy.member, "note") as stream:
            await stream.send(b"one")
            assert await stream.receive() == b"noted"
            proxy.change = flip
            await stream.send(b"two")
            with pytest.raises(StreamDamagedError, match="does not open"):
                await stream.receive()
        async with Proxy(member) as proxy, a.streams.open(proxy.member, "note") as stream:
            await stream.send(b"three")
            assert await stream.receive() == b"noted"
            proxy.change_back = flip
            await stream.send(b"four")
            with pytest.raises(StreamDamagedError, match="does not open"):
                await stream.receive()
        assert got == [b"one", b"three", b"four"]


async def test_an_answer_to_another_question_is_not_taken() -> None:
    async with two() as (a, _, member):
        async with Proxy(member) as proxy, a.streams.open(proxy.member, "reverse"):
            answer = proxy.to_client
        async with Proxy(member) as proxy:
            proxy.change_back = lambda _data: answer
            with pytest.raises(StreamDamagedError, match="another question"):
                await a.streams.call(proxy.member, "reverse", b"")


async def test_a_recorded_stream_cannot_be_played_again() -> None:
    calls = 0

    async def pay(_request: bytes, _info: StreamInfo) -> bytes:
        nonlocal calls
        calls += 1
        return b"paid"

    async with two() as (a, b, member):
        b.streams.serve_call("pay", pay)
        async with Proxy(member) as proxy:
            await a.streams.call(proxy.member, "pay", b"100")
        for recorded in (proxy.to_server, proxy.to_client):
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*member.address)
                writer.write(recorded)
                writer.write_eof()
                with contextlib.suppress(OSError):
                    await reader.read()
                writer.close()
        assert calls == 1
        assert b.streams.stats.accepted == 1
        assert await a.streams.call(member, "pay", b"1") == b"paid"


@pytest.mark.parametrize(
    "data", [b"\xc5", b"\xc5\x80", b"\xc6\x80", b"\xc5" + b"\xff" * 50, b"\xc5\x81\xa3Min\x01"]
)
@pytest.mark.parametrize("encrypted", [True, False])
async def test_openings_that_are_none_change_nothing(data: bytes, encrypted: bool) -> None:
    async with node("a", encrypted=encrypted) as a, node("b", encrypted=encrypted) as b:
        envelope = Envelope(Keyring([KEY]) if encrypted else None)
        reader, writer = await asyncio.open_connection(*b.local.address)
        writer.write(envelope.seal_stream(data))
        writer.write_eof()
        await reader.read()
        writer.close()
        assert await a.streams.call(b.local, "reverse", b"ab") == b"ba"


def test_a_listening_socket_knows_that_it_is_tcp() -> None:
    # Otherwise asyncio leaves Nagle's algorithm on, and every last small frame is 40 ms late.
    tcp, udp = bind(("127.0.0.1", 0), backlog=1)
    with tcp, udp:
        assert tcp.proto == socket.IPPROTO_TCP
        assert udp.getsockname() == tcp.getsockname()
