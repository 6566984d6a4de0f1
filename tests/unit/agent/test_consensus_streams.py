"""Calls to voters on streams of real gossip: what is said of those that fail, and who gets what."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from constellation_core.agent.consensus import streams
from constellation_core.agent.consensus.streams import SERVICE, StreamCaller, serve
from constellation_core.consensus.remote import LostError, NotReachedError
from constellation_core.consensus.remote.network import Send
from constellation_core.consensus.remote.wire import MAX_MESSAGE, MAX_REPLY, MAX_REQUEST
from constellation_core.gossip import (
    Gossip,
    GossipConfig,
    Keyring,
    Member,
    StreamError,
    StreamLimitError,
)
from constellation_core.testing.waiting import until_so

pytestmark = pytest.mark.timeout(60)

KEY = b"k" * 32
VOTER = "v1"
DEADLINE = 20.0


class Voter:
    """A service that answers as it is told, and a client of it, each with a gossip of its own."""

    def __init__(self) -> None:
        self.serving = True
        self.answers: Callable[[bytes, Send], Awaitable[None]] = self.echo
        self.running = 0
        self.asked = 0
        self.member: Callable[[], Member | None] = lambda: self.there.local
        self.here, self.there = (
            Gossip(GossipConfig(name), bind=("127.0.0.1", 0), keyring=Keyring([KEY]))
            for name in ("client", "voter")
        )
        self.caller = StreamCaller(self.here.streams, self._find)

    @property
    def voter(self) -> str:
        return VOTER

    async def serve(self, request: bytes, send: Send) -> None:
        self.asked += 1
        self.running += 1
        try:
            await self.answers(request, send)
        finally:
            self.running -= 1

    async def call(self, request: bytes = b"hello", timeout: float = DEADLINE) -> list[bytes]:
        return list(await self.caller.call(VOTER, request, timeout=timeout))

    @staticmethod
    async def echo(request: bytes, send: Send) -> None:
        await send(request, True)

    @staticmethod
    async def nothing(_request: bytes, _send: Send) -> None:
        await asyncio.Event().wait()

    @property
    def opened(self) -> int:
        return self.here.streams.stats.opened

    def _find(self, voter: str) -> Member | None:
        return self.member() if voter == VOTER else None


@pytest.fixture
async def voter() -> AsyncIterator[Voter]:
    made = Voter()
    await made.here.start()
    await made.there.start()
    serve(made.there.streams, lambda: made if made.serving else None)
    yield made
    await made.caller.close()
    await made.here.close()
    await made.there.close()


async def test_calls_share_a_connection_and_none_waits_for_another(voter: Voter) -> None:
    free = asyncio.Event()

    async def answers(request: bytes, send: Send) -> None:
        if request == b"0":
            await free.wait()
        await send(request, False)
        await send(request, True)

    voter.answers = answers
    calls = [asyncio.create_task(voter.call(b"%d" % number)) for number in range(50)]
    assert await asyncio.gather(*calls[1:]) == [[b"%d" % n, b"%d" % n] for n in range(1, 50)]
    assert not calls[0].done()
    free.set()
    assert await calls[0] == [b"0", b"0"]
    assert voter.opened == 1


async def test_who_is_no_voter_was_not_reached(voter: Voter) -> None:
    voter.serving = False
    for _ in range(2):
        with pytest.raises(NotReachedError, match="no voter"):
            await voter.call()
    assert voter.asked == 0
    voter.serving = True
    assert await voter.call() == [b"hello"]


async def test_who_is_not_there_was_not_reached(voter: Voter) -> None:
    with pytest.raises(NotReachedError, match="no node is known"):
        await voter.caller.call("v2", b"", timeout=DEADLINE)
    there = voter.there.local
    voter.member = lambda: replace(there, address=(there.address[0], 1))
    with pytest.raises(NotReachedError, match="no connection"):
        await voter.call()
    # A node with another name is there by now.
    voter.member = lambda: replace(there, name="another")
    with pytest.raises(NotReachedError):
        await voter.call()
    assert voter.asked == 0


async def test_who_does_not_answer_the_knock_was_not_reached(
    voter: Voter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECT", 0.2)
    closed = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1000):
                pass
        writer.close()
        closed.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as deaf:
        address = deaf.sockets[0].getsockname()[:2]
        voter.member = lambda: replace(voter.there.local, address=address)
        with pytest.raises(NotReachedError, match=r"within 0\.2 s"):
            await voter.call()
        await voter.caller.close()
        await closed.wait()


async def test_an_answer_that_is_cut_off_is_lost(voter: Voter) -> None:
    async def half(request: bytes, send: Send) -> None:
        await send(request, False)
        await voter.nothing(request, send)

    voter.answers = half
    calls = [asyncio.create_task(voter.call()) for _ in range(3)]
    await until_so(lambda: voter.running == 3, DEADLINE, "three calls under way")
    await voter.there.close()
    for call in calls:
        with pytest.raises(LostError):
            await call
    with pytest.raises(NotReachedError):
        await voter.call()


async def test_a_voter_that_says_nothing_is_connected_anew(voter: Voter) -> None:
    voter.answers = voter.nothing
    other = asyncio.create_task(voter.call())
    await until_so(lambda: voter.running, DEADLINE, "a call under way")
    with pytest.raises(LostError, match="says nothing"):
        await voter.call(timeout=0.2)
    with pytest.raises(LostError):
        await other
    await until_so(lambda: voter.running == 0, DEADLINE, "the end of what nobody waits for")
    voter.answers = voter.echo
    assert await voter.call() == [b"hello"]
    assert voter.opened == 2


async def test_a_voter_that_answers_others_keeps_its_connection(voter: Voter) -> None:
    async def answers(request: bytes, send: Send) -> None:
        await (voter.nothing if request == b"slow" else voter.echo)(request, send)

    voter.answers = answers
    slow = asyncio.create_task(voter.call(b"slow", timeout=0.5))
    while not slow.done():
        assert await voter.call(b"quick") == [b"quick"]
        await asyncio.sleep(0.01)
    with pytest.raises(LostError, match="in time"):
        await slow
    assert await voter.call() == [b"hello"]
    assert voter.opened == 1


async def test_who_stops_to_vote_ends_what_is_under_way(voter: Voter) -> None:
    voter.answers = voter.nothing
    before = asyncio.create_task(voter.call())
    await until_so(lambda: voter.running, DEADLINE, "a call under way")
    voter.serving = False
    with pytest.raises(LostError):
        await voter.call()
    with pytest.raises(LostError):
        await before
    with pytest.raises(NotReachedError):
        await voter.call()


async def test_a_long_answer_may_take_longer_than_its_beginning(voter: Voter) -> None:
    async def answers(_: bytes, send: Send) -> None:
        for _ in range(10):
            await send(bytes(MAX_MESSAGE), False)
            await asyncio.sleep(0.05)
        await send(b"", True)

    voter.answers = answers
    assert len(await voter.call(timeout=0.3)) == 11


async def test_an_answer_without_an_end_is_not_kept(voter: Voter) -> None:
    async def answers(_: bytes, send: Send) -> None:
        while True:
            await send(bytes(MAX_MESSAGE), False)

    voter.answers = answers
    with pytest.raises(LostError):
        await voter.call()
    await until_so(lambda: voter.running == 0, DEADLINE, "the end of the answer")
    assert voter.here.streams.stats.bytes_in < 2 * MAX_REPLY


async def test_a_connection_that_nobody_uses_is_closed(
    voter: Voter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "IDLE", 0.1)

    async def answers(request: bytes, send: Send) -> None:
        await asyncio.sleep(0.3)
        await send(request, True)

    voter.answers = answers
    # A call that waits is a use.
    assert await voter.call() == [b"hello"]
    await until_so(lambda: voter.here.streams.stats.outgoing == 0, DEADLINE, "the end")
    assert await voter.call() == [b"hello"]
    assert voter.opened == 2


async def test_a_call_that_is_given_up_costs_the_others_nothing(voter: Voter) -> None:
    free = asyncio.Event()

    async def answers(request: bytes, send: Send) -> None:
        await free.wait()
        await send(request, True)

    voter.answers = answers
    calls = [asyncio.create_task(voter.call(b"%d" % number)) for number in range(4)]
    await until_so(lambda: voter.running == 4, DEADLINE, "calls under way")
    calls[1].cancel()
    free.set()
    assert [await calls[number] for number in (0, 2, 3)] == [[b"0"], [b"2"], [b"3"]]
    assert calls[1].cancelled()
    assert voter.opened == 1


async def test_so_many_calls_at_once_and_no_more(voter: Voter) -> None:
    voter.answers = voter.nothing
    calls = [asyncio.create_task(voter.call()) for _ in range(streams.AT_ONCE)]
    await until_so(lambda: voter.running == streams.AT_ONCE, DEADLINE, "calls under way")
    with pytest.raises(NotReachedError, match="under way"):
        await voter.call()
    assert voter.running == streams.AT_ONCE
    await voter.caller.close()
    for call in calls:
        with pytest.raises(LostError):
            await call
    await until_so(lambda: voter.running == 0, DEADLINE, "their end")
    with pytest.raises(NotReachedError):
        await voter.call()


@asynccontextmanager
async def stranger(voter: Voter) -> AsyncIterator[streams.Stream]:
    """Somebody with the cluster's key who keeps to no rules."""
    with contextlib.suppress(StreamError):
        async with voter.here.streams.open(voter.there.local, SERVICE, timeout=DEADLINE) as stream:
            yield stream


@pytest.mark.parametrize("message", [b"", b"short"])
async def test_what_is_no_call_ends_the_stream_and_nothing_else(
    voter: Voter, message: bytes
) -> None:
    async with stranger(voter) as stream:
        await stream.send(message)
        assert await stream.receive() is None
    assert voter.asked == 0
    assert await voter.call() == [b"hello"]


async def test_more_calls_than_are_taken_end_the_stream(voter: Voter) -> None:
    voter.answers = voter.nothing
    async with stranger(voter) as stream:
        for _ in range(10 * streams.AT_ONCE):
            await stream.send(bytes(8))
    assert voter.asked <= 2 * streams.AT_ONCE
    await until_so(lambda: voter.running == 0, DEADLINE, "the end of the calls")


async def test_a_request_that_is_too_large_is_not_taken(voter: Voter) -> None:
    async with stranger(voter) as stream:
        with pytest.raises(StreamLimitError):
            await stream.send(bytes(8 + MAX_REQUEST + 1))
        await stream.send(bytes(8 + MAX_REQUEST))
        assert await stream.receive() is not None
    assert voter.asked == 1


async def test_who_reads_nothing_is_not_waited_for(voter: Voter) -> None:
    sent = 0

    async def answers(_: bytes, send: Send) -> None:
        nonlocal sent
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await send(bytes(MAX_MESSAGE), False)
                    sent += 1

    voter.answers = answers
    async with stranger(voter) as stream:
        await stream.send(bytes(8))
        await until_so(lambda: sent, DEADLINE, "a beginning")
        await until_so(lambda: voter.running == 0, DEADLINE, "the end of what nobody reads")
    # What is on the way is bounded by what the reader granted.
    assert sent < 20
    voter.answers = voter.echo
    assert await voter.call() == [b"hello"]
