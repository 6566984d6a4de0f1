"""What a voter answers, and to what it says no."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import (
    ApplyFailed,
    EngineStatus,
    NotLeader,
    Role,
    Unavailable,
    Unknown,
    Voter,
)
from constellation_core.consensus.remote import (
    ConsensusService,
    LocalFirst,
    LostError,
    NotReachedError,
    service,
)
from constellation_core.consensus.remote.wire import (
    Ask,
    AskStatus,
    Body,
    Carried,
    Failure,
    Outcome,
    Propose,
    RenewLeases,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from constellation_core.consensus.state import Answer, Entry, Query, Space
from constellation_core.consensus.state.operations import (
    Acquire,
    Delete,
    Expire,
    OpenSession,
    Operation,
    Put,
    RaiseVersion,
    Recover,
    Release,
    Renew,
    RequestId,
    decode_header,
    decode_operation,
    encode,
)
from constellation_core.testing.consensus.group import SimulatedGroup, SimulatedHost
from constellation_core.testing.virtual_loop import run_virtual

ID = RequestId(1, 1, 1)
PUT = Propose(encode(Put("a", b"1"), ID))
ALL = Ask(Query(Space.KEYS, "", exact=False), False, 0.0)
LARGE = Answer(1, True, tuple(Entry(f"k{n}", bytes(60_000), 1) for n in range(20)))
LEADER = Voter("v2", "v2:1")


class Fake:
    """A voter whose access does what it is told, and who reaches another one."""

    def __init__(self, outcome: object = b"result") -> None:
        group = SimulatedGroup(Random(1), {"v1": SimulatedHost(), "v2": SimulatedHost()})
        group.elect("v2")
        self.outcome = outcome
        self.done: list[tuple[object, float]] = []
        self.passed_on: list[tuple[str, Request]] = []
        self.other: object = Carried(b"elsewhere")
        self.service = ConsensusService(group.voters["v1"], self, self)

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        return await self._do(operation, timeout)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        return await self._do(Ask(query, linearizable, wait), timeout)

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        return await self._do(epochs, timeout)

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Sequence[bytes]:
        self.passed_on.append((voter, decode_request(request)))
        if isinstance(self.other, Exception):
            raise self.other
        return list(encode_reply(self.other))  # type: ignore[arg-type]

    async def ask(self, body: Body, timeout: float = 2.0, *, forwarded: bool = False) -> Reply:
        messages = await self.send(encode_request(Request(body, timeout, forwarded)))
        return decode_reply(messages)

    async def send(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        ends: list[bool] = []

        async def keep(message: bytes, last: bool) -> None:
            messages.append(message)
            ends.append(last)

        await self.service.serve(data, keep)
        assert not any(ends[:-1])
        assert all(ends[-1:])
        return messages

    async def _do(self, what: object, timeout: float) -> Any:
        self.done.append((what, timeout))
        if self.outcome is None:
            await asyncio.sleep(1e9)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario())


@pytest.mark.parametrize(
    "operation",
    [
        Put("a", b"1"),
        Put("a", b"1", 3),
        Delete("a"),
        Acquire("dns", "me/1", 1000),
        OpenSession(),
        Release(1),
    ],
)
def test_clients_may_ask_for_this(operation: Operation) -> None:
    async def scenario() -> None:
        fake, asked = Fake(), encode(operation, ID)
        assert await fake.ask(Propose(asked), 1.5) == Carried(b"result")
        assert fake.done == [(asked, 1.5)]

    run(scenario)


@pytest.mark.parametrize(
    "operation", [Renew((1,)), Expire(1, 0), RaiseVersion(2), Recover(1 << 20)]
)
@pytest.mark.parametrize("request_id", [ID, None])
def test_and_not_for_that(operation: Operation, request_id: RequestId | None) -> None:
    async def scenario() -> None:
        fake = Fake()
        for forwarded in (False, True):
            reply = await fake.ask(Propose(encode(operation, request_id)), forwarded=forwarded)
            assert isinstance(reply, Failure)
            assert reply.outcome is Outcome.REFUSED
        assert not fake.done
        assert not fake.passed_on

    run(scenario)


things = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 64 - 1) | st.binary() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=9),
    max_leaves=15,
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(things).map(msgpack.packb),
        st.builds(
            lambda operation: encode_request(Request(Propose(operation), 2.0)),
            st.binary(max_size=99)
            | st.lists(things).map(msgpack.packb)
            | st.builds(
                lambda version, kind, rest: msgpack.packb([version, kind, 0, 0, 0, *rest]),
                st.integers(0, 3),
                st.integers(0, 12),
                st.lists(things, max_size=4),
            ),
        ),
    )
)
def test_whatever_comes_is_answered_and_nothing_forbidden_gets_through(data: bytes) -> None:
    async def scenario() -> None:
        fake = Fake()
        (message,) = await fake.send(data)
        reply = decode_reply([message])
        refused = isinstance(reply, Failure) and reply.outcome is Outcome.REFUSED
        assert refused is not (bool(fake.done) or isinstance(reply, EngineStatus))
        for what, _ in fake.done:
            if isinstance(what, bytes):
                header = decode_header(what)
                assert header.kind in service.ALLOWED
                decode_operation(header)

    run(scenario)


def test_the_rest_is_passed_on_as_it_is() -> None:
    async def scenario() -> None:
        fake = Fake(LARGE)
        assert await fake.ask(ALL) == LARGE
        fake.outcome = Renewal((3,), 5.0)
        assert await fake.ask(RenewLeases((1, 3))) == fake.outcome
        status = await fake.ask(AskStatus())
        assert status == fake.service._engine.status
        assert fake.done == [(ALL, 2.0), ((1, 3), 2.0)]

    run(scenario)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("why"), Outcome.UNAVAILABLE),
        (Unknown("why"), Outcome.UNKNOWN),
        (ApplyFailed("why"), Outcome.APPLY_FAILED),
    ],
)
def test_what_went_wrong_is_told(error: Exception, outcome: Outcome) -> None:
    async def scenario() -> None:
        fake = Fake(error)
        assert await fake.ask(PUT) == Failure(outcome, "why")
        assert not fake.passed_on

    run(scenario)


def test_the_leader_is_asked_once() -> None:
    async def scenario() -> None:
        fake = Fake(NotLeader(LEADER))
        assert await fake.ask(PUT, 2.0) == Carried(b"elsewhere")
        ((voter, request),) = fake.passed_on
        assert voter == LEADER.id
        assert request.forwarded
        assert request.body == PUT
        assert request.timeout < 2.0
        # Who is asked in another's place asks nobody in its own.
        reply = await fake.ask(PUT, forwarded=True)
        assert reply == Failure(Outcome.NOT_LEADER, str(fake.outcome), LEADER)
        assert len(fake.passed_on) == 1

    run(scenario)


@pytest.mark.parametrize("hint", [None, Voter("v1", "v1:1")])
def test_without_another_leader_nobody_is_asked(hint: Voter | None) -> None:
    async def scenario() -> None:
        fake = Fake(NotLeader(hint))
        reply = await fake.ask(PUT)
        assert reply == Failure(Outcome.NOT_LEADER, str(fake.outcome), hint)
        assert not fake.passed_on

    run(scenario)


def test_a_leader_that_is_not_reached_is_named_and_one_that_may_have_been_is_not_sure() -> None:
    async def scenario() -> None:
        fake = Fake(NotLeader(LEADER))
        fake.other = NotReachedError("gone")
        assert await fake.ask(PUT) == Failure(Outcome.NOT_LEADER, str(fake.outcome), LEADER)
        fake.other = LostError("gone")
        assert await fake.ask(PUT) == Failure(Outcome.UNKNOWN, "the leader: gone")

    run(scenario)


def test_a_defect_costs_one_request(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        fake = Fake(RuntimeError("secret"))
        reply = await fake.ask(PUT)
        assert isinstance(reply, Failure)
        assert reply.outcome is Outcome.UNKNOWN
        assert "secret" not in reply.reason
        fake.outcome = b"result"
        assert await fake.ask(PUT) == Carried(b"result")

    with caplog.at_level(logging.ERROR, logger="constellation.consensus"):
        run(scenario)
    assert "a request failed" in caplog.text


def test_when_the_time_is_over_nobody_is_answered() -> None:
    async def scenario() -> None:
        fake = Fake(None)
        before = asyncio.get_running_loop().time()
        assert await fake.send(encode_request(Request(PUT, 2.0))) == []
        assert asyncio.get_running_loop().time() - before < 4

    run(scenario)


def test_there_is_room_for_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        fake = Fake(None)
        request = encode_request(Request(PUT, 5.0))
        most = 10 * (len(request) + service.REQUEST_COST)
        monkeypatch.setattr(service, "ROOM", most)
        asking = [asyncio.create_task(fake.send(request)) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert len(fake.done) == 10
        reply = await fake.ask(PUT)
        assert isinstance(reply, Failure)
        assert reply.outcome is Outcome.UNAVAILABLE
        assert len(fake.done) == 10
        for task in asking[:5]:
            task.cancel()
        await asyncio.wait(asking)
        fake.outcome = b"result"
        for _ in range(30):
            assert await fake.ask(PUT) == Carried(b"result")

    run(scenario)


def test_few_large_answers_are_under_way_and_small_ones_go_on() -> None:
    async def scenario() -> None:
        fake = Fake(LARGE)
        request = encode_request(Request(ALL, 2.0))
        sent: list[bytes] = []

        async def read_nothing(message: bytes, last: bool) -> None:
            sent.append(message)
            await asyncio.sleep(1e9)

        reading = [
            asyncio.create_task(fake.service.serve(request, read_nothing)) for _ in range(10)
        ]
        await asyncio.sleep(0.1)
        # Made piece by piece: nobody has more than the first. The others were told to come again.
        assert len(sent) == 10
        outcomes = [reply for reply in map(one, sent) if isinstance(reply, Failure)]
        assert len(outcomes) == 10 - service.LARGE_REPLIES
        assert {each.outcome for each in outcomes} == {Outcome.UNAVAILABLE}
        fake.outcome = b"result"
        assert await fake.ask(PUT) == Carried(b"result")
        # Who does not read is given up.
        done, _ = await asyncio.wait(reading, timeout=service.SEND_TIMEOUT + 1)
        assert len(done) == 10
        assert all(isinstance(task.exception(), TimeoutError) for task in done)
        fake.outcome = LARGE
        assert await fake.ask(ALL) == LARGE

    run(scenario)


def one(message: bytes) -> Reply:
    return decode_reply([message])


def test_a_voter_asks_itself_without_a_network() -> None:
    async def scenario() -> None:
        fake = Fake()
        here: list[ConsensusService] = [fake.service]
        caller = LocalFirst(fake, lambda: here[0] if here else None)
        request = encode_request(Request(PUT, 2.0))
        assert decode_reply(await caller.call("v1", request, timeout=2.0)) == Carried(b"result")
        assert not fake.passed_on
        assert decode_reply(await caller.call("v2", request, timeout=2.0)) == fake.other
        fake.outcome = None
        for timeout in (1.0, 60.0):
            with pytest.raises(LostError):
                await caller.call("v1", request, timeout=timeout)
        here.clear()
        assert decode_reply(await caller.call("v1", request, timeout=2.0)) == fake.other

    run(scenario)


def test_a_voter_knows_its_name() -> None:
    async def scenario() -> None:
        assert Fake().service.voter == "v1"
        assert Fake().service._engine.status.role is Role.FOLLOWER

    run(scenario)
