"""The API: who may do what, and requests that are wrong, slow or endless."""

from __future__ import annotations

import asyncio
import json
import stat
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from constellation_core.api.errors import RefusedError
from constellation_core.api.routing import ApiRoute
from constellation_core.api.server import ApiBindError, ApiConfig, ApiServer, RouteConflictError
from constellation_core.runtime import LogLine
from constellation_core.testing.waiting import until_so

Answer = tuple[int, Any]
BACKUP = b"\x00bytes\xff" * 3_000_000
"""Larger than one that the store's limits allow."""


class Journal:
    """Events that the test adds."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    @property
    def last_id(self) -> int:
        return len(self.events)

    def add(self, kind: str) -> None:
        self.events.append({"id": len(self.events) + 1, "kind": kind, "text": "ä\n"})
        self._more.set()

    def documents_after(self, event_id: int) -> Sequence[Mapping[str, Any]]:
        return self.events[event_id:]

    async def follow(self, event_id: int) -> AsyncIterator[Mapping[str, Any]]:
        while True:
            for event in self.events[event_id:]:
                event_id = event["id"]
                yield event
            self._more.clear()
            await self._more.wait()


class Backend:
    """An agent that does nothing, but notes what it was asked."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.asked: list[str] = []
        self.reasons: list[str] = []
        self.votes = True
        self.ended = asyncio.Event()

    def not_ready(self) -> Sequence[str]:
        return self.reasons

    def status(self) -> Mapping[str, Any]:
        return {"node": "node-a"}

    def members(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "node-a"}]

    def services(self) -> Sequence[Mapping[str, Any]]:
        return []

    def instances(self) -> Sequence[Mapping[str, Any]]:
        return [
            {"id": "web.node-a", "service": "web", "node": "node-a"},
            {"id": "api.node-b", "service": "api", "node": "node-b"},
        ]

    def plugins(self) -> Sequence[Mapping[str, Any]]:
        return []

    def leases(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "dns-writer", "node": "node-a", "epoch": 7}]

    def consensus(self) -> Mapping[str, Any]:
        return {"backend": "raft", "available": True, "leader": "node-a", "problems": []}

    async def consensus_backup(self) -> bytes:
        if not self.votes:
            raise RefusedError("not-a-voter", "this agent does not vote", "ask node-a")
        return BACKUP

    async def verify(self) -> Sequence[Mapping[str, Any]]:
        return [{"check": "x", "status": "ok"}]

    async def _lines(self, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        for number in range(min(tail, 3)):
            yield LogLine(1.0, "stdout", f"line {number}")
        if follow:
            await asyncio.Event().wait()
        if tail > 3:
            raise RefusedError("node-unreachable", "nothing comes any more")

    @asynccontextmanager
    async def logs(
        self, instance_id: str, *, tail: int, follow: bool
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        if instance_id == "api.node-b":
            raise RefusedError("node-down", "node-b is dead", "wait", status=503)
        if instance_id != "web.node-a":
            raise KeyError(instance_id)
        self.asked.append(f"logs {tail} {follow}")
        try:
            yield self._lines(tail, follow)
        finally:
            self.asked.append("logs closed")

    async def restart(self, instance_id: str) -> None:
        if instance_id != "web.node-a":
            raise KeyError(instance_id)
        self.asked.append(f"restart {instance_id}")

    async def reload(self) -> Mapping[str, Any]:
        raise RefusedError("wrong-services", "services.py:3: no", "mend it")

    def shut_down(self) -> None:
        self.ended.set()


async def _raises(_request: web.Request) -> web.StreamResponse:
    raise RuntimeError("secret-of-the-plugin")


async def _hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


PLUGIN = [
    ApiRoute("GET", "/api/hello/raises", _raises),
    ApiRoute("GET", "/api/hello/hangs", _hangs),
]


class Running:
    """A server and clients for both of its sides."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.backend = Backend()
        self.socket = folder / "agent.sock"
        self.server = ApiServer(ApiConfig("127.0.0.1", 0, self.socket, **config), self.backend)
        self.server.add_routes("hello", PLUGIN)

    async def tcp(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await self._ask(aiohttp.TCPConnector(), path, method, headers)

    async def unix(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await self._ask(aiohttp.UnixConnector(str(self.socket)), path, method, headers)

    async def _ask(
        self, connector: aiohttp.BaseConnector, path: str, method: str, headers: dict[str, str]
    ) -> Answer:
        host, port = self.server.address
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://{host}:{port}{path}", headers=headers) as answer,
        ):
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path)
    await running.server.start()
    yield running
    await running.server.close()


CONTROL = [
    ("POST", "/api/v1/instances/web.node-a/restart"),
    ("POST", "/api/v1/reload"),
    ("POST", "/api/v1/leave"),
    ("GET", "/api/v1/verify"),
    ("GET", "/api/v1/instances/web.node-a/logs"),
    ("GET", "/api/v1/consensus/backup"),
]


@pytest.mark.parametrize(("method", "path"), CONTROL)
async def test_tcp_is_read_only_and_says_what_to_do(
    running: Running, method: str, path: str
) -> None:
    status, document = await running.tcp(path, method)
    assert status == 403
    assert document["error"]["code"] == "read-only"
    assert str(running.socket) in document["error"]["hint"]
    assert running.backend.asked == []
    assert not running.backend.ended.is_set()


async def test_the_token_opens_tcp_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    running = Running(tmp_path, token="s3cret-token")
    await running.server.start()
    try:
        path = "/api/v1/instances/web.node-a/restart"
        for given in ("", "Bearer wrong", "s3cret-token", "bearer s3cret-token"):
            status, document = await running.tcp(path, "POST", Authorization=given)
            assert status == 401
            assert "s3cret" not in json.dumps(document)
        assert running.backend.asked == []
        assert (await running.tcp(path, "POST", Authorization="Bearer s3cret-token"))[0] == 200
    finally:
        await running.server.close()


async def test_the_socket_may_do_everything_and_is_for_owner_and_group(running: Running) -> None:
    assert stat.S_IMODE(running.socket.stat().st_mode) == 0o660
    assert await running.unix("/api/v1/instances/web.node-a/restart", "POST") == (
        200,
        {"restarted": "web.node-a"},
    )
    status, text = await running.unix("/api/v1/instances/web.node-a/logs?tail=2")
    assert (status, [json.loads(line)["text"] for line in text.splitlines()]) == (
        200,
        ["line 0", "line 1"],
    )
    assert (await running.unix("/api/v1/leave", "POST"))[0] == 200
    async with asyncio.timeout(5):
        await running.backend.ended.wait()
    assert (await running.unix("/api/v1/reload", "POST")) == (
        409,
        {
            "error": {
                "code": "wrong-services",
                "message": "services.py:3: no",
                "hint": "mend it",
            }
        },
    )


async def test_a_backup_comes_as_it_is_or_not_at_all(running: Running) -> None:
    connector = aiohttp.UnixConnector(str(running.socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://agent/api/v1/consensus/backup") as answer,
    ):
        assert await answer.read() == BACKUP
    running.backend.votes = False
    status, document = await running.unix("/api/v1/consensus/backup")
    assert (status, document["error"]["code"]) == (409, "not-a-voter")


async def test_reading(running: Running) -> None:
    assert await running.tcp("/healthz") == (200, {"ok": True})
    assert await running.tcp("/readyz") == (200, {"ready": True, "reasons": []})
    running.backend.reasons = ["not warm"]
    assert await running.tcp("/readyz") == (503, {"ready": False, "reasons": ["not warm"]})
    assert (await running.tcp("/healthz"))[0] == 200
    held = [{"name": "dns-writer", "node": "node-a", "epoch": 7}]
    assert await running.tcp("/api/v1/leases") == (200, held)
    assert (await running.tcp("/api/v1/consensus"))[1]["leader"] == "node-a"
    found = await running.tcp("/api/v1/instances?service=api")
    assert [each["id"] for each in found[1]] == ["api.node-b"]
    index = (await running.tcp("/api/v1"))[1]
    assert {"GET", "POST"} == {each["method"] for each in index}
    assert "hello" in {each["owner"] for each in index}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("DELETE", "/api/v1/status", 405),
        ("POST", "/api/v1/instances/no.node-a/restart", 404),
        ("POST", "/api/v1/instances/api.node-b/restart", 404),
        ("GET", "/api/v1/events?since=soon", 400),
    ],
)
async def test_wrong_requests_are_answered_in_json(
    running: Running, method: str, path: str, status: int
) -> None:
    found, document = await running.unix(path, method)
    assert found == status
    assert document["error"]["message"]


async def test_an_instance_of_another_node_is_told_where(running: Running) -> None:
    _, document = await running.unix("/api/v1/instances/api.node-b/restart", "POST")
    assert "node-b" in document["error"]["hint"]


async def test_logs_that_cannot_be_had_and_logs_that_break_off_say_why(running: Running) -> None:
    status, document = await running.unix("/api/v1/instances/api.node-b/logs")
    assert (status, document["error"]["code"]) == (503, "node-down")
    assert (await running.unix("/api/v1/instances/no.node-a/logs"))[0] == 404
    status, text = await running.unix("/api/v1/instances/web.node-a/logs?tail=4")
    *lines, last = map(json.loads, text.splitlines())
    assert (status, len(lines)) == (200, 3)
    assert last == {"error": {"code": "node-unreachable", "message": "nothing comes any more"}}


async def test_logs_end_when_their_reader_goes_away(running: Running) -> None:
    connector = aiohttp.UnixConnector(str(running.socket))
    path = "http://agent/api/v1/instances/web.node-a/logs?tail=1&follow=true"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(path) as answer,
    ):
        assert b"line 0" in await answer.content.readline()
        assert running.backend.asked == ["logs 1 True"]
    # Nothing is written any more, and yet it is noticed.
    await until_so(lambda: "logs closed" in running.backend.asked, 10, "the end of the logs")


async def test_a_plugins_route_that_raises_costs_one_answer(running: Running) -> None:
    status, document = await running.tcp("/api/hello/raises")
    assert status == 500
    assert "hello" in document["error"]["message"]
    assert "secret-of-the-plugin" not in json.dumps(document)
    assert (await running.tcp("/healthz"))[0] == 200


async def test_a_plugins_route_that_hangs_holds_up_nobody(running: Running) -> None:
    hanging = asyncio.create_task(running.tcp("/api/hello/hangs"))
    for _ in range(5):
        assert (await running.tcp("/healthz"))[0] == 200
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 3\r\n\r\nabc",
    ],
)
async def test_garbage_is_refused_without_a_word_in_the_log(
    running: Running, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection(*running.server.address)
    async with asyncio.timeout(10):
        try:
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    writer.close()
    assert not answer or b" 40" in answer or b" 4" in answer.split(b"\r\n")[0]
    assert (await running.tcp("/healthz"))[0] == 200
    assert "Traceback" not in caplog.text


async def test_events_stream_from_where_the_client_was(running: Running) -> None:
    for kind in ("one", "two", "three"):
        running.backend.journal.add(kind)
    assert [e["kind"] for e in (await running.tcp("/api/v1/events?since=1"))[1]] == ["two", "three"]
    host, port = running.server.address
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "2"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}/api/v1/events", headers=headers) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        async with asyncio.timeout(10):
            assert await answer.content.readuntil(b"\n\n") == (
                b'id: 3\nevent: three\ndata: {"id":3,"kind":"three","text":"\xc3\xa4\\n"}\n\n'
            )
            running.backend.journal.add("four")
            assert (await answer.content.readuntil(b"\n\n")).startswith(b"id: 4")


async def test_streams_are_limited_and_given_back(running: Running) -> None:
    host, port = running.server.address
    headers = {"Accept": "text/event-stream"}
    url = f"http://{host}:{port}/api/v1/events"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        answers = [await session.get(url, headers=headers) for _ in range(64)]
        assert {answer.status for answer in answers} == {200}
        async with session.get(url, headers=headers) as refused:
            assert refused.status == 503
        for answer in answers:
            answer.close()
        running.backend.journal.add("wakes them")
        async with asyncio.timeout(10):
            while True:
                async with session.get(url, headers=headers) as again:
                    if again.status == 200:
                        break
                await asyncio.sleep(0.02)


async def test_closing_ends_open_streams(tmp_path: Path) -> None:
    running = Running(tmp_path)
    await running.server.start()
    host, port = running.server.address
    headers = {"Accept": "text/event-stream"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}/api/v1/events", headers=headers) as answer,
    ):
        async with asyncio.timeout(10):
            await running.server.close()
            assert await answer.content.read() == b""
    assert not running.socket.exists()


async def test_addresses_that_cannot_be_used(running: Running, tmp_path: Path) -> None:
    host, port = running.server.address
    taken = ApiServer(ApiConfig(host, port, tmp_path / "b.sock"), Backend())
    with pytest.raises(ApiBindError, match="another process uses it"):
        await taken.start()
    same_socket = ApiServer(ApiConfig(host, 0, running.socket), Backend())
    with pytest.raises(ApiBindError, match="another agent answers"):
        await same_socket.start()
    await same_socket.close()
    assert (await running.unix("/healthz"))[0] == 200
    long = ApiServer(ApiConfig(host, 0, tmp_path / ("x" * 120)), Backend())
    with pytest.raises(ApiBindError, match="107 bytes"):
        await long.start()
    await long.close()
    file = tmp_path / "file"
    file.write_text("precious")
    no_socket = ApiServer(ApiConfig(host, 0, file), Backend())
    with pytest.raises(ApiBindError, match="not a socket"):
        await no_socket.start()
    await no_socket.close()
    assert file.read_text() == "precious"


async def test_routes_of_plugins_cannot_take_those_of_others(tmp_path: Path) -> None:
    server = ApiServer(ApiConfig("127.0.0.1", 0, tmp_path / "s"), Backend())
    with pytest.raises(RouteConflictError, match="core"):
        server.add_routes("bad", [ApiRoute("GET", "/api/v1/status", _raises)])
    with pytest.raises(ValueError, match="control"):
        server.add_routes("bad", [ApiRoute("POST", "/api/x", _raises)])
    with pytest.raises(ValueError, match="begin with"):
        server.add_routes("bad", [ApiRoute("GET", "x", _raises)])


async def _nothing(_request: web.Request) -> Any:
    return None


async def _exits(_request: web.Request) -> web.StreamResponse:
    raise SystemExit("on purpose")


def _plain(_request: web.Request) -> Any:
    return web.Response()


async def test_handlers_that_answer_nothing_or_leave_are_errors_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(tmp_path)
    handlers = {"nothing": _nothing, "exits": _exits, "plain": _plain}
    routes = [ApiRoute("GET", f"/api/{name}", each) for name, each in handlers.items()]
    with warnings.catch_warnings():
        # aiohttp's own, of a handler that is no async function.
        warnings.simplefilter("ignore", DeprecationWarning)
        running.server.add_routes("bad", routes)
    await running.server.start()
    try:
        for name in handlers:
            status, answer = await running.tcp(f"/api/{name}")
            assert status == 500
            assert answer["error"]["code"] == "failed"
            assert "of bad" in answer["error"]["message"]
        assert (await running.tcp("/healthz"))[0] == 200
    finally:
        await running.server.close()
    assert "SystemExit: on purpose" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "route",
    [
        ApiRoute("HEAD", "/healthz", _raises),
        ApiRoute("*", "/api/x", _raises, "control"),
        ApiRoute("GET ", "/api/x", _raises),
        ApiRoute("GET", "/api/{x", _raises),
        ApiRoute("GET", "/api/{x}/{x}", _raises),
        ApiRoute("GET", "/api/x", _raises, "everybody"),  # type: ignore[arg-type]
        ApiRoute("GET", "/api/x", None),  # type: ignore[arg-type]
        ApiRoute("GET", None, _raises),  # type: ignore[arg-type]
        ApiRoute(5, "/api/x", _raises),  # type: ignore[arg-type]
        ApiRoute("GET", "/api/x", _raises, summary=object()),  # type: ignore[arg-type]
    ],
    ids=lambda route: f"{route.method} {route.path} {route.access}",
)
async def test_a_route_that_could_not_be_served_is_refused_at_once(
    tmp_path: Path, route: ApiRoute
) -> None:
    running = Running(tmp_path)
    with pytest.raises((ValueError, RouteConflictError)):
        running.server.add_routes("bad", [ApiRoute("GET", "/api/fine", _hangs), route])
    await running.server.start()
    assert (await running.tcp("/api/fine"))[0] == 404
    await running.server.close()


async def test_a_token_that_is_no_text_is_a_wrong_one(tmp_path: Path) -> None:
    running = Running(tmp_path, token="s3cret-token")
    await running.server.start()
    host, port = running.server.address
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /api/v1/leave HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            b"Authorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
        )
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 401")
    finally:
        await running.server.close()
