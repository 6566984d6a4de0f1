"""The checks against real servers that are well, slow, gone or lying."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from pydantic import ValidationError

from constellation_core import (
    DriverCheck,
    ExecCheck,
    Health,
    HTTPCheck,
    Instance,
    Port,
    Service,
    TCPCheck,
)
from constellation_core.model.check import AnyCheck
from constellation_core.runtime import Phase, RuntimeStatus
from constellation_core.testing.context import FakeContext
from constellation_plugin_monitor.probes import Outcome, Prober

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


def answers(*pieces: bytes, then: float = 0) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        # Leaves when the client does.
        if then:
            await reader.read()

    return handler


async def attempt(check: AnyCheck, port: int = 9, context: FakeContext | None = None) -> Outcome:
    context = context or FakeContext("monitor")
    service = Service("web", command=("x",), ports=(Port("http"), Port("other")), check=check)
    ports = {"http": port, "other": 9}
    instance = Instance("web.node-a", "web", "node-a", "127.0.0.1", ports, Health.HEALTHY)
    if "web.node-a" not in context.local.ids():
        context.local.add(service, instance)
    async with Prober(context) as prober:
        return await prober.attempt(check, service, instance)


@pytest.mark.parametrize(
    ("status", "check", "passed"),
    [
        (b"200 OK", HTTPCheck(), True),
        (b"302 Found", HTTPCheck(), True),
        (b"404 Not Found", HTTPCheck(), False),
        (b"404 Not Found", HTTPCheck(statuses=(400, 499)), True),
        (b"500 Oh", HTTPCheck(), False),
    ],
)
async def test_http_statuses(status: bytes, check: HTTPCheck, passed: bool) -> None:
    async with server(answers(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as port:
        outcome = await attempt(check, port)
    assert outcome.passed is passed
    if not passed:
        assert status[:3].decode() in outcome.detail


async def test_a_body_without_end_is_not_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with server(answers(head, b"5\r\nhello\r\n", then=1)) as port:
        assert (await attempt(HTTPCheck(), port)).passed


@pytest.mark.parametrize(
    "garbage", [b"", b"hello\r\n\r\n", b"HTTP/1.1 9999999 X\r\n\r\n", b"\x00" * 100, b"x" * 100_000]
)
async def test_what_is_not_http_fails_the_check_and_nothing_else(garbage: bytes) -> None:
    async with server(answers(garbage)) as port:
        outcome = await attempt(HTTPCheck(timeout=2), port)
    assert not outcome.passed
    assert outcome.detail


async def test_who_does_not_answer_in_time_fails() -> None:
    async with server(answers(then=1)) as port:
        outcome = await attempt(HTTPCheck(timeout=0.1), port)
    assert outcome == Outcome(False, "no answer within 0.1 s")


@pytest.mark.parametrize("check", [HTTPCheck(), TCPCheck()])
async def test_nobody_there(check: AnyCheck) -> None:
    outcome = await attempt(check)
    assert not outcome.passed
    assert "refused" in outcome.detail


async def test_headers_are_sent() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No\r\n\r\n")

    async with server(handler) as port:
        await attempt(HTTPCheck("/health?x=1", headers={"Host": "web.example.com"}), port)
    assert seen[0].startswith(b"GET /health?x=1 HTTP/1.1")
    assert b"Host: web.example.com" in seen[0]


async def test_tcp() -> None:
    async with server(answers()) as port:
        assert (await attempt(TCPCheck(), port)).passed
        assert not (await attempt(TCPCheck("other"), port)).passed


async def test_exec_runs_beside_the_instance() -> None:
    context = FakeContext("monitor")
    check = ExecCheck(("is-well",))
    context.local.on_execute = lambda _id, _command, _timeout: (0, "fine")
    assert (await attempt(check, context=context)).passed
    context.local.on_execute = lambda _id, _command, _timeout: (3, "first\nlast words")
    outcome = await attempt(check, context=context)
    assert outcome == Outcome(False, "is-well exited with 3: last words")

    def fails(_id: str, _command: object, _timeout: float) -> tuple[int, str]:
        raise RuntimeError("cannot run 'is-well': No such file or directory")

    context.local.on_execute = fails
    assert "No such file" in (await attempt(check, context=context)).detail


async def test_the_drivers_own_word() -> None:
    context = FakeContext("monitor")
    assert (await attempt(DriverCheck(), context=context)).passed
    sick = RuntimeStatus(Phase.RUNNING, driver_health=False, detail="unhealthy in its engine")
    context.local.set_status("web.node-a", sick)
    outcome = await attempt(DriverCheck(), context=context)
    assert outcome == Outcome(False, "unhealthy in its engine")


async def test_a_check_that_cannot_be_made_is_a_failed_one() -> None:
    def broken(_id: str, _command: Sequence[str], _timeout: float) -> tuple[int, str]:
        raise ZeroDivisionError("on purpose")

    context = FakeContext("monitor")
    context.local.on_execute = broken
    outcome = await attempt(ExecCheck(("true",)), context=context)
    assert not outcome.passed
    assert "cannot be made: ZeroDivisionError" in outcome.detail


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"a b": "c"}, {"": "c"}, {"X": "\0"}])
def test_headers_that_are_none_are_refused_in_the_definition(headers: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HTTPCheck("/", headers=headers)
