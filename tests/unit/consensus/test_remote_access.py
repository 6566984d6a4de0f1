"""Whom a client asks, and what it may say of what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import (
    ApplyFailed,
    ConsensusError,
    EngineStatus,
    NotLeader,
    Role,
    Unavailable,
    Unknown,
    Voter,
)
from constellation_core.consensus.remote import LostError, NotReachedError, RemoteAccess
from constellation_core.consensus.remote.access import AVOIDED
from constellation_core.consensus.remote.wire import (
    MAX_EPOCHS,
    MAX_OPERATION,
    Ask,
    Carried,
    Failure,
    Outcome,
    Reply,
    Request,
    decode_request,
    encode_reply,
)
from constellation_core.consensus.state import Answer, Query, Space
from constellation_core.testing.consensus.group import SimulatedHost
from constellation_core.testing.virtual_loop import run_virtual

ONE, TWO, THREE = "one", "two", "three"
ALL = Query(Space.KEYS, "", exact=False)
DONE = Carried(b"done")
NOBODY = Failure(Outcome.NOT_LEADER)
BUSY = Failure(Outcome.UNAVAILABLE, "busy")
GONE = NotReachedError("gone")
LOST = LostError("lost")

What = Reply | Exception | bytes | None


def leads(voter: str) -> Failure:
    return Failure(Outcome.NOT_LEADER, "", Voter(voter, voter))


class Fake:
    """A directory, and a caller whose voters answer as it is told: ``None`` is no answer at all."""

    def __init__(self, *voters: str, leader: str | None = None, **answers: What) -> None:
        self.answers: dict[str, What] = dict(answers)
        self.asked: list[str] = []
        self.requests: list[Request] = []
        self.timeouts: list[float] = []
        self._voters = voters
        self._leader = leader
        self.access = RemoteAccess(self, self, SimulatedHost())

    def voters(self) -> Sequence[str]:
        return self._voters

    def leader(self) -> str | None:
        return self._leader

    async def call(self, voter: str, request: bytes, *, timeout: float) -> list[bytes]:
        self.asked.append(voter)
        self.requests.append(decode_request(request))
        self.timeouts.append(timeout)
        await asyncio.sleep(0.01)
        answer = self.answers[voter]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return [answer]
        if answer is None:
            await asyncio.sleep(timeout)
            raise LostError("no answer")
        return list(encode_reply(answer))

    async def propose(self) -> bytes:
        return await self.access.propose(b"operation", timeout=2.0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario())


def test_the_leader_is_asked_first_by_those_who_need_it() -> None:
    async def scenario() -> None:
        answer = Answer(1, True, ())
        fake = Fake(ONE, TWO, THREE, leader=THREE, three=DONE, one=answer)
        assert await fake.propose() == b"done"
        fake.answers[THREE] = Renewal((), 5.0)
        assert await fake.access.renew((1,), timeout=2.0) == Renewal((), 5.0)
        fake.answers[THREE] = answer
        await fake.access.query(ALL, linearizable=True, wait=0, timeout=2.0)
        await fake.access.query(ALL, linearizable=False, wait=0, timeout=2.0)
        assert fake.asked == [THREE, THREE, THREE, ONE]

    run(scenario)


def test_a_hint_is_followed_also_to_one_who_is_not_known() -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, leader=ONE, one=leads(THREE), three=DONE)
        assert await fake.propose() == b"done"
        assert fake.asked == [ONE, THREE]

    run(scenario)


def test_hints_in_a_circle_come_to_an_end() -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, THREE, one=leads(TWO), two=leads(ONE), three=NOBODY)
        with pytest.raises(NotLeader):
            await fake.propose()
        assert fake.asked == [ONE, TWO, THREE]

    run(scenario)


@pytest.mark.parametrize("nothing", [GONE, BUSY, NOBODY])
def test_where_nothing_was_done_the_next_is_asked(nothing: What) -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, one=nothing, two=DONE)
        assert await fake.propose() == b"done"
        assert fake.asked == [ONE, TWO]

    run(scenario)


@pytest.mark.parametrize(
    "something",
    [
        LOST,
        None,
        Failure(Outcome.UNKNOWN),
        b"no reply",
        Answer(1, True, ()),
        EngineStatus(Role.LEADER, "me"),
    ],
)
def test_where_something_may_have_been_done_nobody_else_is_asked(something: What) -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, one=something, two=DONE)
        with pytest.raises(Unknown):
            await fake.propose()
        assert fake.asked == [ONE]

    run(scenario)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(Outcome.APPLY_FAILED, ApplyFailed), (Outcome.REFUSED, Unavailable)],
)
def test_what_is_final_is_raised(failure: Outcome, raised: type[ConsensusError]) -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, one=Failure(failure, "because"), two=DONE)
        with pytest.raises(raised, match="because"):
            await fake.propose()
        assert fake.asked == [ONE]

    run(scenario)


def test_without_voters_nothing_is_done() -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable, match="no voter is known"):
            await Fake().propose()

    run(scenario)


def test_who_was_of_no_use_comes_last_for_a_while() -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, leader=ONE, one=GONE, two=DONE)
        await fake.propose()
        await fake.propose()
        assert fake.asked == [ONE, TWO, TWO]
        await asyncio.sleep(AVOIDED)
        fake.answers[ONE] = DONE
        await fake.propose()
        assert fake.asked[3:] == [ONE]
        await fake.propose()
        assert fake.asked[4:] == [ONE]

    run(scenario)


def test_all_voters_together_have_the_time_of_one_attempt() -> None:
    async def scenario() -> None:
        fake = Fake(ONE, TWO, one=BUSY, two=None)
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unknown):
            await fake.propose()
        assert asyncio.get_running_loop().time() - before == pytest.approx(2.01, abs=0.01)
        # Those who are asked have to answer a little before nobody waits any more.
        assert all(
            request.timeout < timeout
            for request, timeout in zip(fake.requests, fake.timeouts, strict=True)
        )

    run(scenario)


def test_waiting_for_a_change_takes_no_time_of_the_attempt() -> None:
    async def scenario() -> None:
        fake = Fake(ONE, one=Answer(1, False, ()))
        query = Query(Space.KEYS, "a", exact=True, after=1)
        await fake.access.query(query, linearizable=False, wait=10.0, timeout=2.0)
        assert fake.timeouts == [pytest.approx(12.0, abs=0.3)]
        assert fake.requests[0].body == Ask(query, False, 10.0)

    run(scenario)


def test_what_no_voter_would_take_is_not_sent() -> None:
    async def scenario() -> None:
        fake = Fake(ONE, one=DONE)
        with pytest.raises(ValueError, match="an operation"):
            await fake.access.propose(bytes(MAX_OPERATION + 1), timeout=2)
        with pytest.raises(ValueError, match="leases"):
            await fake.access.renew((), timeout=2)
        with pytest.raises(ValueError, match="leases"):
            await fake.access.renew(tuple(range(1, MAX_EPOCHS + 2)), timeout=2)
        long = Query(Space.KEYS, "ä" * 129, exact=True)
        with pytest.raises(ValueError, match="a name"):
            await fake.access.query(long, linearizable=True, wait=0, timeout=2)
        assert not fake.asked

    run(scenario)


def test_one_voter_is_asked_how_it_stands() -> None:
    async def scenario() -> None:
        status = EngineStatus(Role.FOLLOWER, TWO, leader=Voter(ONE, "a:1"), term=3)
        fake = Fake(ONE, TWO, two=status)
        assert await fake.access.status(TWO, timeout=2) == status
        fake.answers[TWO] = GONE
        with pytest.raises(Unavailable):
            await fake.access.status(TWO, timeout=2)

    run(scenario)


doings = st.sampled_from(
    [
        (DONE, True),
        (GONE, False),
        (BUSY, False),
        (NOBODY, False),
        (leads(ONE), False),
        (leads(TWO), False),
        (leads("stranger"), False),
        (Failure(Outcome.REFUSED), False),
        (LOST, True),
        (None, True),
        (b"junk", True),
        (Failure(Outcome.UNKNOWN), True),
    ]
)


@given(
    st.dictionaries(st.sampled_from([ONE, TWO, THREE, "four"]), doings),
    st.sampled_from([None, ONE, "stranger"]),
)
def test_it_never_says_that_nothing_was_done_when_something_may_have_been(
    voters: dict[str, tuple[What, bool]], leader: str | None
) -> None:
    async def scenario() -> None:
        answers = {voter: what for voter, (what, _) in voters.items()}
        fake = Fake(*voters, leader=leader, **{ONE: GONE, TWO: GONE, "stranger": GONE} | answers)
        try:
            assert await fake.propose() == b"done"
        except (NotLeader, Unavailable):
            assert not any(voters[each][1] for each in fake.asked if each in voters)
        except Unknown:
            assert any(voters[each][1] for each in fake.asked if each in voters)
        assert len(fake.asked) == len(set(fake.asked))

    run(scenario)
