"""The gossip on real sockets of loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from constellation_core.gossip import Gossip, GossipBindError, GossipConfig, Keyring, NoDelegate
from constellation_core.gossip.datagrams import DatagramSocket
from constellation_core.gossip.envelope import Envelope
from constellation_core.gossip.member import MemberEvent
from constellation_core.gossip.messages import Ack, Nack, Ping, UserMessage, decode, encode
from constellation_core.gossip.wire import write_message
from constellation_core.model.node import NodeState

KEY = Keyring([b"k" * 32])


class Echo(NoDelegate):
    """Answers requests with their own bytes, and keeps what needs no answer."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def on_message(self, payload: bytes) -> None:
        self.messages.append(payload)

    def on_request(self, payload: bytes) -> bytes | None:
        if payload.startswith(b"no answer"):
            self.messages.append(payload)
            return None
        return payload[::-1] if payload else None


@asynccontextmanager
async def running(
    *names: str, keyring: Keyring | None = KEY, host: str = "127.0.0.1"
) -> AsyncIterator[list[Gossip]]:
    async with AsyncExitStack() as stack:
        nodes = []
        for name in names:
            gossip = Gossip(GossipConfig(name), bind=(host, 0), keyring=keyring, delegate=Echo())
            stack.push_async_callback(gossip.close)
            await gossip.start()
            nodes.append(gossip)
        yield nodes


def seed(gossip: Gossip) -> str:
    host, port = gossip.local.address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def alive(gossip: Gossip) -> set[str]:
    return {m.name for m in gossip.members() if m.state is NodeState.ALIVE}


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("keyring", [None, KEY])
async def test_nodes_join_talk_and_leave(host: str, keyring: Keyring | None) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    async with running("a", "b", "c", keyring=keyring, host=host) as (a, b, c):
        assert all(result.joined for result in await b.join([seed(a)]))
        assert all(result.joined for result in await c.join([seed(b)]))
        await until(lambda: all(alive(node) == {"a", "b", "c"} for node in (a, b, c)))
        to_a = next(m for m in c.members() if m.name == "a")
        assert await c.request(to_a, b"hello") == b"olleh"
        await b.leave()
        await until(lambda: alive(a) == alive(c) == {"a", "c"})
        assert next(m for m in a.members() if m.name == "b").state is NodeState.LEFT


async def test_a_large_request_comes_back_whole() -> None:
    async with running("a", "b") as (a, b):
        await b.join([seed(a)])
        payload = os.urandom(3_000_000)
        (to_a,) = (m for m in b.members() if m.name == "a")
        assert await b.request(to_a, payload) == payload[::-1]


async def test_messages_that_are_not_answered() -> None:
    async with running("a") as (a,):
        echo = Echo()
        b = Gossip(GossipConfig("b"), bind=("127.0.0.1", 0), keyring=KEY, delegate=echo)
        await b.start()
        try:
            await a.join([seed(b)])
            (to_b,) = (m for m in a.members() if m.name == "b")
            a.send(to_b, b"one datagram")
            await a.send_reliable(to_b, b"no answer" * 10_000)
            await until(lambda: {len(m) for m in echo.messages} == {12, 90_000})
            a.send(to_b, bytes(1_370))
            await until(lambda: bytes(1_370) in echo.messages)
            with pytest.raises(ValueError, match="1371 bytes do not fit"):
                a.send(to_b, bytes(1_371))
        finally:
            await b.close()
        with pytest.raises(ConnectionError, match="refused"):
            await a.send_reliable(to_b, b"no answer")


async def test_join_says_why_it_failed() -> None:
    async with running("a") as (a,), running("b", keyring=Keyring([b"x" * 32])) as (b,):
        (other_key,) = await b.join([seed(a)])
        assert not other_key.joined
        assert other_key.wrong_key
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        (nobody, unknown) = await b.join([f"127.0.0.1:{port}", "no-such-host.invalid:1"])
        assert "refused" in nobody.reason.lower()
        assert "resolve" in unknown.reason
        assert alive(a) == {"a"}


async def test_a_port_in_use_is_named() -> None:
    async with running("a") as (a,):
        again = Gossip(GossipConfig("b"), bind=a.local.address)
        with pytest.raises(GossipBindError, match=str(a.local.address[1])):
            await again.start()
        await again.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(5_000),
        b"\x0a" + struct.pack(">I", 2**32 - 1),
        b"\x0a" + struct.pack(">I", 4_000) + bytes(100),
        Envelope(KEY).seal_stream(b"\xff" * 100),
        Envelope(KEY).seal_stream(b"\x06\x83\xa5Nodes\xce\xff\xff\xff\xff"),
        Envelope(KEY).seal_stream(encode(Nack(1))),
    ],
)
async def test_garbage_on_the_ports_changes_nothing(data: bytes) -> None:
    async with running("a", "b") as (a, b):
        await b.join([seed(a)])
        reader, writer = await asyncio.open_connection(*a.local.address)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(20):
                udp.sendto(data, a.local.address)
        assert (await b.join([seed(a)]))[0].joined
        assert alive(a) == alive(b) == {"a", "b"}


async def test_connections_that_say_nothing_do_not_keep_others_out() -> None:
    async with running("a", "b") as (a, b), AsyncExitStack() as stack:
        for _ in range(100):
            _, writer = await asyncio.open_connection(*a.local.address)
            stack.callback(writer.close)
        assert (await b.join([seed(a)]))[0].joined


async def test_all_datagrams_that_wait_are_read_before_any_timer_runs() -> None:
    """Else a process that stood still accuses those whose answers it has not read yet."""
    loop = asyncio.get_running_loop()
    mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mine.bind(("127.0.0.1", 0))
    mine.setblocking(False)
    received: list[bytes] = []
    drained: list[int] = []
    at_timer: list[int] = []
    datagrams = DatagramSocket(
        mine,
        lambda data, _source: received.append(data),
        lambda: drained.append(len(received)),
    )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for number in range(100):
                other.sendto(bytes((number,)), mine.getsockname())
        done = asyncio.Event()
        loop.call_at(loop.time() - 1, lambda: (at_timer.append(len(received)), done.set()))
        await done.wait()
    finally:
        datagrams.close()
    assert at_timer == [100]
    assert drained == [100]
    assert received == [bytes((number,)) for number in range(100)]
    datagrams.close()


@pytest.mark.parametrize("keyring", [None, KEY])
async def test_a_label_stands_before_requests_and_not_before_answers(
    keyring: Keyring | None,
) -> None:
    # As in memberlist 0.3 and later, which reads no label from a connection that it opened.
    config = GossipConfig("one", label="prod")
    one = Gossip(config, bind=("127.0.0.1", 0), keyring=keyring)
    await one.start()
    try:
        envelope = Envelope.of(config, keyring)
        reader, writer = await asyncio.open_connection(*one.local.address)
        writer.write(envelope.header + envelope.seal_stream(encode(Ping(7, "one"))))
        async with asyncio.timeout(10):
            answer = await reader.read(4096)
        writer.close()
        await writer.wait_closed()
        if keyring is not None:
            answer = envelope.open_stream(answer[:5], answer[5:])
        assert decode(answer) == Ack(7)
        other = Gossip(GossipConfig("two", label="prod"), bind=("127.0.0.1", 0), keyring=keyring)
        await other.start()
        try:
            assert (await other.join([seed(one)]))[0].joined
        finally:
            await other.close()
    finally:
        await one.close()


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Takes connections and says nothing; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        yield f"{host}:{port}"


async def test_who_waits_for_an_answer_hears_that_the_node_stops() -> None:
    async with running("a", "b") as (a, b), silent_server() as nobody:
        await b.join([seed(a)])
        joining = asyncio.create_task(b.join([nobody]))
        await until(lambda: bool(b.protocol._exchanges._waiting))
        await b.close()
        async with asyncio.timeout(5):
            (result,) = await joining
        assert not result.joined
        assert "stopped" in result.reason


async def test_a_closed_node_says_and_asks_nothing_any_more() -> None:
    async with running("a", "b") as (a, b):
        await b.join([seed(a)])
        (to_a,) = (m for m in b.members() if m.name == "a")
        await b.close()
        assert b.protocol.next_deadline() is None
        async with asyncio.timeout(5):
            (result,) = await b.join([seed(a)])
            assert not result.joined
            with pytest.raises(ConnectionError, match="stopped"):
                await b.request(to_a, b"hello")
        assert b.protocol.next_deadline() is None
        await b.close()


@pytest.mark.parametrize(
    "wrong", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:65536", "a" * 70 + ":1"]
)
async def test_a_seed_that_is_no_address_keeps_nobody_from_the_others(wrong: str) -> None:
    async with running("a", "b") as (a, b):
        assert [echo.peer for echo in await b.ask_echo([wrong, seed(a)])] == [seed(a)]
        bad, good = await b.join([wrong, seed(a)])
        assert (bad.joined, good.joined) == (False, True)
        assert bad.seed == wrong
        assert "cannot resolve it" in bad.reason


class Failing(Echo):
    """Fails at each event of the membership."""

    def on_event(self, event: MemberEvent) -> None:
        raise ZeroDivisionError(event.member.name)


async def test_a_delegate_that_fails_does_not_stop_the_clock() -> None:
    failures: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(context.get("exception"))
    )
    async with running("a") as (a,):
        b = Gossip(GossipConfig("b"), bind=("127.0.0.1", 0), keyring=KEY, delegate=Failing())
        await b.start()
        try:
            await a.join([seed(b)])
            await until(lambda: "b" in alive(a) and "a" in alive(b))
            # It is found dead, which fails too, by a timer among others.
            await a.close()
            await until(lambda: "a" not in alive(b))
            assert failures
            async with running("c") as (c,):
                async with asyncio.timeout(5):
                    await b.join([seed(c)])
                await until(lambda: "c" in b.protocol.stats.round_trips)
        finally:
            await b.close()


async def test_an_answer_that_nobody_reads_is_not_kept() -> None:
    config = GossipConfig("a", exchange_timeout=0.3)
    a = Gossip(config, bind=("127.0.0.1", 0), keyring=KEY, delegate=Echo())
    await a.start()
    try:
        # A kernel that may keep more than the answer has would take it in nobody's place.
        caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        caller.setblocking(False)
        await asyncio.get_running_loop().sock_connect(caller, a.local.address)
        reader, writer = await asyncio.open_connection(sock=caller, limit=1)
        try:
            size = 12_000_000
            await write_message(writer, UserMessage(os.urandom(size)), a.protocol.envelope)
            await until(lambda: not a._connections)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(size)
        finally:
            writer.close()
    finally:
        await a.close()


def test_a_node_is_not_told_at_an_address_that_nobody_can_reach() -> None:
    for everywhere in ("0.0.0.0", "::"):
        with pytest.raises(ValueError, match="advertise"):
            Gossip(GossipConfig("a"), bind=(everywhere, 0))
        with pytest.raises(ValueError, match="advertise"):
            Gossip(GossipConfig("a"), bind=("127.0.0.1", 0), advertise=(everywhere, 0))


async def test_numbers_begin_at_the_wall_clock_so_that_restarts_win() -> None:
    before = int(time.time())
    async with running("a") as (a,):
        assert before <= a.local.incarnation <= time.time()


async def test_a_start_that_fails_leaves_the_port_free() -> None:
    label = GossipConfig("a", label="x" * 300)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    failed = Gossip(label, bind=address)
    with pytest.raises(ValueError, match="label"):
        await failed.start()
    again = Gossip(GossipConfig("a"), bind=address)
    await again.start()
    await again.close()
