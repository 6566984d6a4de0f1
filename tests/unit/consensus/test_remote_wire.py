"""The bytes between those who do not vote and the voters: what is not written down is refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import EngineStatus, Role, Voter
from constellation_core.consensus.remote import wire
from constellation_core.consensus.remote.values import MAX_COUNT, MalformedError
from constellation_core.consensus.remote.wire import (
    Ask,
    AskStatus,
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
from constellation_core.consensus.state.changes import REMEMBERED
from constellation_core.consensus.state.limits import ENTRY_COST, MAX_KEY, MAX_TOTAL, MAX_VALUE

counts = st.integers(0, MAX_COUNT)
# Surrogates have no UTF-8, so no key has them.
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_KEY // 4)
seconds = st.integers(0, 60_000).map(lambda ms: ms / 1000)
voters = st.builds(Voter, names.map(lambda name: name[:16]), names)
queries = st.builds(Query, st.sampled_from(Space), names, st.booleans(), st.none() | counts)
requests = st.builds(
    Request,
    st.one_of(
        st.builds(Propose, st.binary(max_size=300)),
        st.builds(Ask, queries, st.booleans(), seconds),
        st.builds(
            RenewLeases, st.lists(st.integers(1, MAX_COUNT), min_size=1, max_size=9).map(tuple)
        ),
        st.builds(AskStatus),
    ),
    seconds,
    st.booleans(),
)
answers = st.builds(
    Answer,
    counts,
    st.booleans(),
    st.lists(st.builds(Entry, names, st.binary(max_size=99), counts), max_size=9).map(tuple),
    st.lists(names, max_size=9).map(tuple),
)
statuses = st.builds(
    EngineStatus,
    st.sampled_from(Role),
    names.map(lambda name: name[:16]),
    leader=st.none() | voters,
    term=counts,
    voters=st.lists(voters, max_size=5).map(tuple),
    change_pending=st.booleans(),
    match=st.lists(st.tuples(names.map(lambda name: name[:16]), counts), max_size=5).map(tuple),
    heard=st.lists(
        st.tuples(
            names.map(lambda name: name[:16]), st.integers(0, 10**9).map(lambda ms: ms / 1000)
        ),
        max_size=5,
    ).map(tuple),
    log_bytes=counts,
    failure=st.none() | names,
)
replies = st.one_of(
    st.builds(Carried, st.binary(max_size=300)),
    answers,
    st.builds(Renewal, st.lists(counts, max_size=9).map(tuple), seconds),
    statuses,
    st.builds(Failure, st.sampled_from(Outcome), names, st.none() | voters),
)
# Lists that begin like messages, so that what follows is looked at.
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary() | names,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
messages = st.binary(max_size=200) | st.builds(
    lambda kind, rest: msgpack.packb([1, kind, *rest]), st.integers(0, 12), st.lists(junk)
)


@given(requests)
def test_requests_come_out_as_they_went_in(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(replies)
def test_replies_come_out_as_they_went_in(reply: Reply) -> None:
    assert decode_reply(list(encode_reply(reply))) == reply


@given(messages)
def test_what_is_no_request_is_refused_and_does_no_harm(data: bytes) -> None:
    try:
        request = decode_request(data)
    except MalformedError:
        return
    assert 0 <= request.patience <= 2 * wire.MAX_TIMEOUT
    assert decode_request(encode_request(request)) == request


@given(st.lists(messages, max_size=3))
def test_what_is_no_reply_is_refused_and_does_no_harm(data: list[bytes]) -> None:
    try:
        reply = decode_reply(data)
    except MalformedError:
        return
    if isinstance(reply, Renewal):
        reply = replace(reply, next_in=min(reply.next_in, 60.0))
    assert decode_reply(list(encode_reply(reply))) == reply


@given(requests, st.data())
def test_a_request_with_a_byte_changed_is_a_request_or_refused(
    request: Request, data: st.DataObject
) -> None:
    encoded = bytearray(encode_request(request))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedError):
        decode_request(bytes(encoded))


@pytest.mark.parametrize(
    "fields",
    [
        [1, 1, False, 1000, b"x" * (wire.MAX_OPERATION + 1)],
        [1, 1, 0, 1000, b""],
        [1, 1, False, -1, b""],
        [1, 1, False, 60_001, b""],
        [1, 1, False, 1.5, b""],
        [1, 1, False, 1000, "text"],
        [1, 2, False, 1000, msgpack.packb([1, 3, "a", True, None]), True, 0],
        [1, 2, False, 1000, msgpack.packb([1, 1, "a" * 257, True, None]), True, 0],
        [1, 2, False, 1000, msgpack.packb([1, 1, "a", True, -1]), True, 0],
        [1, 2, False, 1000, msgpack.packb([1, 1, "a", True, 1 << 63]), True, 0],
        [1, 3, False, 1000],
        [1, 3, False, 1000, 0],
        [1, 3, False, 1000, 1 << 63],
        [1, 3, False, 1000, True],
        [1, 3, False, 1000, *range(1, wire.MAX_EPOCHS + 2)],
        [1, 4, False, 1000, 1],
        [1, 5, False, 1000, b""],
        [2, 4, False, 1000],
        {},
        None,
    ],
)
def test_requests_that_are_not_to_be(fields: object) -> None:
    with pytest.raises(MalformedError):
        decode_request(msgpack.packb(fields))


def test_the_largest_request_fits() -> None:
    request = Request(Propose(bytes(wire.MAX_OPERATION)), 60, forwarded=True)
    assert len(encode_request(request)) <= wire.MAX_REQUEST
    request = Request(RenewLeases((MAX_COUNT,) * wire.MAX_EPOCHS), 60, forwarded=True)
    assert len(encode_request(request)) <= wire.MAX_REQUEST


def test_longer_than_a_minute_nobody_waits() -> None:
    query = Query(Space.KEYS, "", exact=False, after=1)
    request = decode_request(encode_request(Request(Ask(query, False, 1e9), 1e9)))
    assert request.patience == 2 * wire.MAX_TIMEOUT


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, MAX_VALUE), st.integers(1, 64)), max_size=40),
    st.integers(0, REMEMBERED),
)
def test_large_answers_are_cut_into_messages_and_put_together(
    sizes: list[tuple[int, int]], gone: int
) -> None:
    entries = tuple(
        Entry(f"{number:04}" + "ä" * (key - 1), bytes(value), number)
        for number, (value, key) in enumerate(sizes)
    )
    answer = Answer(7, False, entries, tuple(f"{n:0256}" for n in range(gone)))
    parts = list(encode_reply(answer))
    assert max(map(len, parts)) <= wire.MAX_MESSAGE
    assert decode_reply(parts) == answer


@pytest.mark.parametrize("value", [0, 1000, MAX_VALUE])
def test_the_largest_store_fits_into_a_reply(value: int) -> None:
    key = MAX_KEY
    number = MAX_TOTAL // (key + value + ENTRY_COST)
    # The longest names that differ, and the highest revisions.
    entries = tuple(Entry(f"{n:0{key}}", bytes(value), MAX_COUNT) for n in range(number))
    gone = tuple(f"{n:0{MAX_KEY}}" for n in range(REMEMBERED))
    parts = list(encode_reply(Answer(MAX_COUNT, False, entries, gone)))
    assert max(map(len, parts)) <= wire.MAX_MESSAGE
    # Each message has a head of its own on the way.
    assert sum(len(part) + 64 for part in parts) <= wire.MAX_REPLY


def test_pieces_of_different_answers_are_no_reply() -> None:
    one, two = (next(encode_reply(Answer(n, True, ()))) for n in (1, 2))
    assert decode_reply([one, one]) == Answer(1, True, ())
    result = next(encode_reply(Carried(b"")))
    for parts in ([one, two], [one, result], [result, result], []):
        with pytest.raises(MalformedError):
            decode_reply(parts)


def test_a_status_may_hold_what_a_later_version_adds() -> None:
    status = EngineStatus(Role.LEADER, "me")
    version, kind, fields = msgpack.unpackb(next(encode_reply(status)))
    later = msgpack.packb([version, kind, {**fields, "mood": "good"}])
    assert decode_reply([later]) == status


def test_a_status_may_lack_what_an_earlier_version_does_not_know() -> None:
    status = EngineStatus(Role.LEADER, "me", heard=(("other", 0.5),))
    version, kind, fields = msgpack.unpackb(next(encode_reply(status)))
    del fields["heard"]
    earlier = msgpack.packb([version, kind, fields])
    assert decode_reply([earlier]) == EngineStatus(Role.LEADER, "me")
