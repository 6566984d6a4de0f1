"""Members that answer, hang, break off or lie, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from constellation_core.consensus import Unavailable, Unknown
from constellation_core.testing.free_ports import PortPicker
from constellation_plugin_etcd import exchange
from constellation_plugin_etcd.answers import Refusal, Unreachable
from constellation_plugin_etcd.gateway import STATUS, HttpGateway
from constellation_plugin_etcd.login import Login

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RANGE = "/v3/kv/range"
SECRET = "correct horse"


class Member:
    """Something that listens, and answers what the test says.

    Attributes:
        asked: paths, in order; with the token where there was one.
        answer: what is done with all but the status.
        cluster: what the status says.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[tuple[str, str | None]] = []
        self.answer: Handler = self.well
        self.cluster = "7"
        self.never = asyncio.Event()

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Authorization")))
        if request.path == STATUS:
            return web.json_response({"header": {"cluster_id": self.cluster}})
        return await self.answer(request)

    async def well(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"asked": await request.json()})

    async def hang(self, request: web.Request) -> web.StreamResponse:
        await self.never.wait()
        return web.Response()

    async def break_off(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


def saying(status: int, body: Any) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


async def drain(gateway: HttpGateway) -> None:
    async with aclosing(gateway.stream("/v3/watch", {}, silence=20)) as elements:
        async for _ in elements:
            pass


NO_LEADER = saying(503, {"code": 14, "message": "etcdserver: no leader"})


class Place:
    """Members, and gateways to them."""

    def __init__(self) -> None:
        self._ports = PortPicker()
        self._runners: list[web.AppRunner] = []
        self._gateways: list[HttpGateway] = []
        self._members: list[Member] = []

    async def member(self) -> Member:
        port = self._ports.pick()
        member = Member(port)
        app = web.Application()
        app.router.add_post("/{path:.*}", member.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self._runners.append(runner)
        self._members.append(member)
        return member

    def nobody(self) -> str:
        return f"http://127.0.0.1:{self._ports.pick()}"

    def gateway(self, *urls: str, login: Login | None = None) -> HttpGateway:
        self._gateways.append(HttpGateway(urls, login))
        return self._gateways[-1]

    async def close(self) -> None:
        for member in self._members:
            member.never.set()
        for gateway in self._gateways:
            await gateway.close()
        for runner in self._runners:
            await runner.cleanup()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    await made.close()


async def test_who_does_not_listen_and_who_knows_no_leader_is_passed_over(place: Place) -> None:
    first, second = await place.member(), await place.member()
    first.answer = NO_LEADER
    gateway = place.gateway(place.nobody(), first.url, second.url)
    for _ in range(2):
        answer = await gateway.call(RANGE, {"key": "a"}, timeout=5)
        assert answer == {"asked": {"key": "a"}}
    # Whoever took it is asked first afterwards.
    assert first.paths() == [STATUS, RANGE]
    assert second.paths() == [STATUS, RANGE, RANGE]


async def test_nothing_was_done_when_nobody_takes_it(place: Place) -> None:
    member = await place.member()
    member.answer = NO_LEADER
    with pytest.raises(Unavailable, match="no leader"):
        await place.gateway(place.nobody(), member.url).call(RANGE, {}, timeout=5)
    with pytest.raises(Unavailable, match="refused"):
        await place.gateway(place.nobody()).call(RANGE, {}, timeout=5)


async def test_what_was_sent_and_not_answered_is_unknown(place: Place) -> None:
    first, second = await place.member(), await place.member()
    gateway = place.gateway(first.url, second.url)
    first.answer = first.break_off
    with pytest.raises(Unknown):
        await gateway.call(RANGE, {}, timeout=5)
    # The next time it is another one.
    assert await gateway.call(RANGE, {}, timeout=5) == {"asked": {}}
    second.answer = second.hang
    begun = time.monotonic()
    with pytest.raises(Unknown):
        await gateway.call(RANGE, {}, timeout=0.3)
    assert time.monotonic() - begun < 5
    first.answer = first.well
    assert await gateway.call(RANGE, {}, timeout=5) == {"asked": {}}


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b"[" * 100_000, b'{"a":' * 9_999])
@pytest.mark.parametrize("status", [200, 302, 404, 502])
async def test_who_does_not_speak_etcds_json_is_no_member(
    place: Place, status: int, body: bytes
) -> None:
    member = await place.member()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Location": member.url})

    member.answer = answer
    with pytest.raises(Unknown):
        await place.gateway(member.url).call(RANGE, {}, timeout=5)
    assert member.paths() == [STATUS, RANGE]


async def test_an_answer_without_end_is_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LARGEST", 100_000)
    member = await place.member()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    member.answer = endless
    gateway = place.gateway(member.url)
    with pytest.raises(Unknown, match="more than"):
        await gateway.call(RANGE, {}, timeout=20)
    with pytest.raises(Unavailable, match="more than"):
        await drain(gateway)


async def test_another_cluster_gets_no_request(place: Place) -> None:
    first, second = await place.member(), await place.member()
    second.cluster = "8"
    gateway = place.gateway(first.url, second.url)
    await gateway.call(RANGE, {}, timeout=5)
    first.answer = NO_LEADER
    with pytest.raises(Unavailable, match="another etcd cluster"):
        await gateway.call(RANGE, {}, timeout=5)
    assert second.paths() == [STATUS]
    assert [problem.split()[0] for problem in gateway.problems] == [second.url]
    # Nor does one that was exchanged after its connection broke.
    first.answer = first.break_off
    with pytest.raises(Unknown):
        await gateway.call(RANGE, {}, timeout=5)
    first.answer, first.cluster, second.cluster = first.well, "9", "7"
    assert await gateway.call(RANGE, {}, timeout=5) == {"asked": {}}
    assert second.paths()[-1] == RANGE
    assert [problem.split()[0] for problem in gateway.problems] == []


async def test_a_user_logs_in_again_when_the_token_is_over(place: Place) -> None:
    member = await place.member()
    valid = "token-1"

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if request.path == "/v3/auth/authenticate":
            assert asked == {"name": "me", "password": SECRET}
            return web.json_response({"token": valid})
        if request.headers.get("Authorization") != valid:
            error = {"code": 16, "message": "etcdserver: invalid auth token"}
            return web.json_response(error, status=401)
        return web.json_response({"asked": asked})

    member.answer = answer
    gateway = place.gateway(member.url, login=Login("me", SECRET))
    await gateway.call(RANGE, {}, timeout=5)
    valid = "token-2"
    # Many at once are one login.
    await asyncio.gather(*(gateway.call(RANGE, {}, timeout=5) for _ in range(5)))
    assert member.paths().count("/v3/auth/authenticate") == 2
    assert member.asked[-1] == (RANGE, "token-2")


async def test_a_password_is_never_told(place: Place) -> None:
    member = await place.member()
    member.answer = saying(400, {"code": 3, "message": "etcdserver: authentication failed"})
    login = Login("me", SECRET)
    assert SECRET not in repr(login)
    gateway = place.gateway(member.url, login=login)
    with pytest.raises(Refusal, match="authentication failed") as raised:
        await gateway.call(RANGE, {}, timeout=5)
    assert SECRET not in repr(raised.getrepr(showlocals=False))
    assert RANGE not in member.paths()
    # Nor tried all the time: it costs etcd something.
    with pytest.raises(Refusal, match="authentication failed"):
        await gateway.call(RANGE, {}, timeout=5)
    assert member.paths().count("/v3/auth/authenticate") == 1


async def test_a_login_that_takes_its_time_is_done_at_the_next_attempt(place: Place) -> None:
    member = await place.member()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/v3/auth/authenticate":
            await member.never.wait()
            return web.json_response({"token": "t"})
        return await member.well(request)

    member.answer = answer
    gateway = place.gateway(member.url, login=Login("me", SECRET))
    with pytest.raises(Unreachable):
        await gateway.call(RANGE, {}, timeout=0.1)
    member.never.set()
    await gateway.call(RANGE, {}, timeout=5)
    assert member.asked[-1] == (RANGE, "t")
    assert member.paths().count("/v3/auth/authenticate") == 1


async def test_a_user_for_nothing_is_a_problem_and_no_failure(place: Place) -> None:
    member = await place.member()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/v3/auth/authenticate":
            return await saying(412, {"code": 9, "message": "not enabled"})(request)
        return await member.well(request)

    member.answer = answer
    gateway = place.gateway(member.url, login=Login("me", SECRET))
    assert await gateway.call(RANGE, {}, timeout=5) == {"asked": {}}
    assert len(gateway.problems) == 1


async def test_a_stream_gives_lines_until_it_is_silent(place: Place) -> None:
    member = await place.member()
    texts = [json.dumps({"result": {"n": n, "x": "y" * 300_000}}) for n in range(3)]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        whole = ("\n".join(texts) + "\n").encode()
        # Wherever the pieces end.
        for start in range(0, len(whole), 70_001):
            await response.write(whole[start : start + 70_001])
        await member.never.wait()
        return response

    member.answer = answer
    gateway = place.gateway(member.url)
    async with aclosing(gateway.stream("/v3/watch", {}, silence=0.5)) as elements:
        assert [element["n"] async for element in elements] == [0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (b"", Unavailable),
        (b'{"result": {}}\n', Unavailable),
        (b'{"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}\n', Refusal),
        (b'{"error": {"grpc_code": 14, "message": "x"}}\n', Unknown),
        (b'{"result": []}\n', Unknown),
        (b"nonsense\n", Unknown),
    ],
)
async def test_a_stream_that_ends_says_so(
    place: Place, lines: bytes, error: type[Exception]
) -> None:
    member = await place.member()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=lines)

    member.answer = answer
    gateway = place.gateway(member.url)
    with pytest.raises(error):
        await drain(gateway)


async def test_each_member_is_asked_for_itself(place: Place) -> None:
    first, nobody = await place.member(), place.nobody()
    answers = await place.gateway(first.url, nobody).ask_each(STATUS, 5)
    assert answers[first.url] == {"header": {"cluster_id": "7"}}
    assert isinstance(answers[nobody], Unreachable)


async def test_a_closed_gateway_sends_nothing(place: Place) -> None:
    member = await place.member()
    gateway = place.gateway(member.url)
    await gateway.call(RANGE, {}, timeout=5)
    await gateway.close()
    asked = len(member.asked)
    with pytest.raises(Unavailable, match="closed"):
        await gateway.call(RANGE, {}, timeout=5)
    assert len(member.asked) == asked
