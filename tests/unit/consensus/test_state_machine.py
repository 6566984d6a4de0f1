"""The replicated state: what operations do, and that every voter comes to the same."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from constellation_core.consensus.state import Query, ReplicatedState, Space
from constellation_core.consensus.state import limits as bounds
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
from constellation_core.consensus.state.results import (
    Conflict,
    Done,
    Granted,
    HeldByOther,
    Opened,
    Reason,
    Refused,
    Renewed,
    Result,
    decode_result,
    encode_result,
)

KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "é", "", "x" * 257])
NAMES = st.sampled_from(["dns", "dns-writer", "init"])
SMALL = st.integers(0, 12)
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Put, KEYS, st.binary(max_size=3), st.none() | SMALL),
    st.builds(Delete, KEYS, st.none() | SMALL),
    st.builds(OpenSession),
    st.builds(Acquire, NAMES, st.sampled_from(["n1", "n2", "n3"]), st.sampled_from([0, 45_000])),
    st.builds(lambda e: Renew(tuple(sorted(e))), st.sets(st.integers(1, 9), min_size=1)),
    st.builds(Expire, SMALL, st.integers(0, 2)),
    st.builds(Release, SMALL),
    st.builds(RaiseVersion, st.integers(0, 1)),
    st.builds(Recover, st.sampled_from([0, 1, 1 << 20])),
)
REQUESTS = st.none() | st.builds(
    lambda session, floor, above: RequestId(session, floor + above, floor),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0, 1, 2, 200]),
)
LOGS = st.lists(st.tuples(OPERATIONS, REQUESTS), max_size=40)


class Driver:
    """A state, and a client whose requests are numbered."""

    def __init__(self, state: ReplicatedState | None = None) -> None:
        self.state = state or ReplicatedState()
        self.sequence = 0
        opened = self.raw(OpenSession())
        assert isinstance(opened, Opened)
        self.session = opened.session

    def raw(self, operation: Operation, request: RequestId | None = None) -> Result:
        return decode_result(self.state.apply(0, encode(operation, request)))

    def do(self, operation: Operation) -> Result:
        self.sequence += 1
        return self.raw(operation, RequestId(self.session, self.sequence, self.sequence))

    def granted(self, name: str = "dns", holder: str = "n1") -> Granted:
        result = self.do(Acquire(name, holder, 45_000))
        assert isinstance(result, Granted)
        return result


@given(OPERATIONS, REQUESTS)
def test_operations_survive_their_bytes(operation: Operation, request: RequestId | None) -> None:
    header = decode_header(encode(operation, request))
    assert decode_operation(header) == operation
    assert header.request == request


@given(
    st.one_of(
        st.builds(Done, SMALL),
        st.builds(Conflict, SMALL),
        st.builds(Opened, SMALL),
        st.builds(Granted, SMALL, st.booleans(), SMALL),
        st.builds(HeldByOther, st.text(), SMALL, SMALL),
        st.builds(Renewed, st.lists(SMALL).map(tuple)),
        st.builds(Refused, st.sampled_from(Reason)),
    )
)
def test_results_survive_their_bytes(result: Result) -> None:
    assert decode_result(encode_result(result)) == result


@given(LOGS, st.integers(0, 40))
@settings(max_examples=200)
def test_a_voter_that_began_from_a_snapshot_is_the_same(
    log: list[tuple[Operation, RequestId | None]], cut: int
) -> None:
    whole, late = ReplicatedState(), ReplicatedState()
    for index, (operation, request) in enumerate(log):
        if index == cut:
            late.restore(whole.snapshot())
            assert late.snapshot() == whole.snapshot()
        expected = whole.apply(index, encode(operation, request))
        if index >= cut:
            assert late.apply(index, encode(operation, request)) == expected
    if cut >= len(log):
        late.restore(whole.snapshot())
    assert late.snapshot() == whole.snapshot()
    assert late.leases() == whole.leases()


@given(st.binary() | st.recursive(SMALL, lambda x: st.lists(x, max_size=8)).map(msgpack.packb))
@example(b"\x81\x91\xc0\xc0")  # a map whose key is a list
@settings(max_examples=200)
def test_what_is_no_operation_is_refused_and_changes_nothing(data: bytes) -> None:
    driver = Driver()
    driver.granted()
    before = driver.state.snapshot()
    result = decode_result(driver.state.apply(0, data))
    assert isinstance(result, Refused | Conflict | Done | Opened | Granted | Renewed)
    if isinstance(result, Refused) and result.reason is Reason.MALFORMED:
        assert driver.state.snapshot() == before


@given(st.binary(max_size=200))
def test_what_is_no_snapshot_changes_nothing(data: bytes) -> None:
    driver = Driver()
    before = driver.state.snapshot()
    with pytest.raises(ValueError, match="snapshot"):
        driver.state.restore(data)
    assert driver.state.snapshot() == before


@given(LOGS, st.data())
def test_a_changed_snapshot_is_refused_or_is_another_state(
    log: list[tuple[Operation, RequestId | None]], data: st.DataObject
) -> None:
    state = ReplicatedState()
    for index, (operation, request) in enumerate(log):
        state.apply(index, encode(operation, request))
    snapshot = bytearray(state.snapshot())
    at = data.draw(st.integers(0, len(snapshot) - 1))
    snapshot[at] ^= data.draw(st.integers(1, 255))
    other = ReplicatedState()
    try:
        other.restore(bytes(snapshot))
    except ValueError:
        return
    assert other.snapshot() == bytes(snapshot)


@given(st.lists(st.tuples(OPERATIONS, st.integers(0, 30)), max_size=30))
@settings(max_examples=200)
def test_duplicates_of_requests_are_harmless_however_late(
    script: list[tuple[Operation, int]],
) -> None:
    """Copies of each request arrive later; results and state are those of single arrivals."""
    script = [(op, delay) for op, delay in script if not isinstance(op, Recover | OpenSession)]
    once, often = Driver(), Driver()
    late: list[tuple[int, bytes, bytes]] = []
    for position, (operation, delay) in enumerate(script):
        once.sequence += 1
        request = RequestId(once.session, once.sequence, once.sequence)
        data = encode(operation, request)
        result = once.state.apply(0, data)
        assert often.state.apply(0, data) == result
        late.append((position + delay % 7, data, result))
        for _, copy, first in [each for each in late if each[0] == position]:
            again = often.state.apply(0, copy)
            assert again in (first, encode_result(Refused(Reason.FINISHED)))
    assert often.state.snapshot() == once.state.snapshot()


def test_a_request_is_carried_out_once_until_its_client_is_done_with_it() -> None:
    driver = Driver()
    request = RequestId(driver.session, 1, 1)
    first = driver.raw(Put("a", b"1", 0), request)
    assert isinstance(first, Done)
    assert driver.raw(Put("a", b"1", 0), request) == first
    assert driver.raw(Put("b", b"1"), RequestId(driver.session, 2, 2)) == Done(2)
    assert driver.raw(Put("a", b"2"), request) == Refused(Reason.FINISHED)


def test_a_client_that_is_forgotten_is_told_so() -> None:
    driver = Driver()
    request = RequestId(driver.session, 1, 1)
    driver.raw(Put("a", b"1"), request)
    for _ in range(bounds.MAX_SESSIONS):
        driver.raw(OpenSession())
    revision = driver.state.revision
    assert driver.raw(Put("a", b"1"), request) == Refused(Reason.NO_SESSION)
    assert driver.state.revision == revision


def test_who_speaks_is_not_forgotten() -> None:
    driver = Driver()
    for _ in range(2 * bounds.MAX_SESSIONS):
        driver.raw(OpenSession())
        assert isinstance(driver.do(Put("a", b"1")), Done)


def test_results_that_are_remembered_are_bounded() -> None:
    driver = Driver()
    for above in range(bounds.SESSION_WINDOW):
        assert isinstance(driver.raw(Put("a", b""), RequestId(driver.session, 1 + above, 1)), Done)
    beyond = RequestId(driver.session, 1 + bounds.SESSION_WINDOW, 1)
    assert driver.raw(Put("a", b""), beyond) == Refused(Reason.WINDOW)


def test_results_are_forgotten_when_they_are_too_many_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from constellation_core.consensus.state import sessions

    monkeypatch.setattr(sessions, "MAX_RESULTS", 1000)
    drivers = [Driver(state := ReplicatedState())] + [Driver(state) for _ in range(50)]
    for driver in drivers:
        assert isinstance(driver.do(Put("a", b"")), Done)
    assert drivers[0].do(Put("a", b"")) == Refused(Reason.NO_SESSION)
    assert isinstance(drivers[-1].do(Put("a", b"")), Done)


def test_what_is_not_repeatable_needs_a_request_id() -> None:
    driver = Driver()
    for operation in (Put("a", b""), Delete("a"), Acquire("dns", "n1", 45_000)):
        assert driver.raw(operation) == Refused(Reason.NO_REQUEST_ID)


def test_compare_and_set() -> None:
    driver = Driver()
    assert driver.do(Put("a", b"1", 0)) == Done(1)
    assert driver.do(Put("a", b"2", 0)) == Conflict(1)
    assert driver.do(Put("a", b"2", 1)) == Done(2)
    assert driver.do(Delete("a", 1)) == Conflict(2)
    assert driver.do(Delete("a", 2)) == Done(3)
    assert driver.do(Delete("a")) == Done(3)
    assert driver.do(Put("a", b"3", 2)) == Conflict(0)
    assert driver.do(Put("a", b"3", 0)) == Done(4)


def test_limits() -> None:
    driver = Driver()
    assert isinstance(driver.do(Put("k" * bounds.MAX_KEY, b"")), Done)
    assert driver.do(Put("k" * (bounds.MAX_KEY + 1), b"")) == Refused(Reason.KEY_SIZE)
    assert driver.do(Put("é" * 129, b"")) == Refused(Reason.KEY_SIZE)
    assert driver.do(Put("", b"")) == Refused(Reason.KEY_SIZE)
    assert isinstance(driver.do(Put("v", b"v" * bounds.MAX_VALUE)), Done)
    assert driver.do(Put("v", b"v" * (bounds.MAX_VALUE + 1))) == Refused(Reason.VALUE_SIZE)
    assert driver.do(Acquire("n" * 257, "n1", 45_000)) == Refused(Reason.KEY_SIZE)
    assert driver.do(Acquire("n", "n" * 257, 45_000)) == Refused(Reason.KEY_SIZE)
    assert driver.do(Acquire("n", "n1", bounds.MIN_TTL - 1)) == Refused(Reason.TTL)
    assert driver.do(Acquire("n", "n1", bounds.MAX_TTL + 1)) == Refused(Reason.TTL)


def test_the_whole_store_is_bounded_and_can_be_made_smaller_again() -> None:
    driver = Driver()
    value, number = b"v" * bounds.MAX_VALUE, 0
    while isinstance(result := driver.do(Put(f"{number:04}", value)), Done):
        number += 1
    assert result == Refused(Reason.TOTAL_SIZE)
    assert number == bounds.MAX_TOTAL // (bounds.MAX_VALUE + 4 + bounds.ENTRY_COST)
    assert isinstance(driver.do(Put("0000", b"smaller")), Done)
    assert isinstance(driver.do(Delete("0001")), Done)
    assert isinstance(driver.do(Put(f"{number:04}", value)), Done)
    assert isinstance(driver.do(Put(f"{number + 1:04}", value)), Done)
    restored = ReplicatedState()
    restored.restore(driver.state.snapshot())
    assert Driver(restored).do(Put("more", value)) == Refused(Reason.TOTAL_SIZE)


def test_leases_in_number_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from constellation_core.consensus.state import machine

    monkeypatch.setattr(machine, "MAX_LEASES", 2)
    driver = Driver()
    driver.granted("a")
    driver.granted("b")
    assert driver.do(Acquire("c", "n1", 45_000)) == Refused(Reason.LEASES)
    driver.granted("a")


def test_a_lease_is_for_one_holder() -> None:
    driver = Driver()
    granted = driver.granted()
    assert driver.do(Acquire("dns", "n2", 45_000)) == HeldByOther("n1", granted.epoch, 1)
    assert driver.raw(Release(granted.epoch)) == Done(2)
    assert driver.raw(Release(granted.epoch)) == Conflict(0)
    assert driver.granted("dns", "n2").epoch > granted.epoch


def test_a_holder_that_takes_its_lease_again_gets_a_new_epoch() -> None:
    driver = Driver()
    first, second = driver.granted(), driver.granted()
    assert second.epoch > first.epoch
    assert not second.clean
    assert driver.raw(Renew((first.epoch, second.epoch))) == Renewed((first.epoch,))


def test_a_renewal_in_time_prevents_the_expiry() -> None:
    driver = Driver()
    epoch = driver.granted().epoch
    assert driver.raw(Renew((epoch,))) == Renewed(())
    assert driver.raw(Expire(epoch, 0)) == Conflict(0)
    assert driver.raw(Expire(epoch, 1)) == Done(2)
    assert driver.raw(Renew((epoch,))) == Renewed((epoch,))
    assert driver.raw(Expire(epoch, 1)) == Conflict(0)


def test_whether_the_holder_before_was_done_with_it_is_known() -> None:
    driver = Driver()
    first = driver.granted()
    assert not first.clean
    driver.raw(Release(first.epoch))
    second = driver.granted()
    assert second.clean
    driver.raw(Expire(second.epoch, 0))
    third = driver.granted()
    assert not third.clean
    for number in range(bounds.MAX_RELEASED + 1):
        driver.raw(Release(third.epoch))
        third = driver.granted(f"other-{number}")
    assert not driver.granted("dns").clean


@given(LOGS)
@settings(max_examples=200)
def test_epochs_grow_whatever_happens(log: list[tuple[Operation, RequestId | None]]) -> None:
    driver = Driver()
    last = 0
    for operation, _ in log:
        if isinstance(operation, Recover):
            result = driver.raw(operation)
            driver = Driver(driver.state)
        else:
            result = driver.do(operation)
        if isinstance(result, Granted):
            assert result.epoch > last
            last = result.epoch
        driver.state.restore(driver.state.snapshot())


def test_after_a_recovery_nothing_is_given_out_twice() -> None:
    lost = Driver()
    saved = lost.state.snapshot()
    held = lost.granted()
    revision = lost.state.revision
    survivor = ReplicatedState()
    survivor.restore(saved)
    survivor.apply(0, encode(Recover(1 << 20)))
    driver = Driver(survivor)
    assert driver.session > lost.session + 1000
    assert driver.granted().epoch > held.epoch
    assert survivor.revision > revision
    late = encode(Put("a", b""), RequestId(lost.session, 9, 9))
    assert decode_result(survivor.apply(0, late)) == Refused(Reason.NO_SESSION)


def test_new_code_asks_for_what_old_voters_know_as_old_code_does() -> None:
    assert decode_header(encode(OpenSession())).version == 1


def future(version: int) -> bytes:
    packed: bytes = msgpack.packb([version, 99, 0, 0, 0, {"what": "ever"}])
    return packed


def test_what_is_not_agreed_on_is_refused_alike_by_old_and_new_code() -> None:
    old, new = ReplicatedState(supported=1), ReplicatedState(supported=2)
    refused = encode_result(Refused(Reason.NOT_ENABLED))
    assert old.apply(1, future(2)) == new.apply(1, future(2)) == refused
    assert old.snapshot() == new.snapshot()


def test_code_that_is_too_old_gives_no_answer_and_no_snapshot() -> None:
    old, new = ReplicatedState(supported=1), ReplicatedState(supported=2)
    raise_to_two = encode(RaiseVersion(2))
    assert decode_result(new.apply(1, raise_to_two)) == Done(0)
    assert decode_result(old.apply(1, raise_to_two)) == Refused(Reason.OUTDATED)
    assert decode_result(old.apply(2, encode(OpenSession()))) == Refused(Reason.OUTDATED)
    # Its kind is unknown here too, but it is no longer refused for its version.
    assert decode_result(new.apply(2, future(2))) == Refused(Reason.MALFORMED)
    for read in (old.snapshot, old.leases, lambda: old.answer(Query(Space.KEYS, "", False))):
        with pytest.raises(RuntimeError, match="older"):
            read()
    with pytest.raises(ValueError, match="version 2"):
        ReplicatedState(supported=1).restore(new.snapshot())
    updated = ReplicatedState(supported=2)
    updated.restore(new.snapshot())
    assert updated.version == 2


@given(LOGS, st.integers(0, 40), st.sampled_from(["", "a", "a/"]), st.integers(0, 2))
@settings(max_examples=200)
def test_changes_since_a_revision_lead_from_the_view_then_to_the_view_now(
    log: list[tuple[Operation, RequestId | None]], cut: int, prefix: str, restored: int
) -> None:
    driver = Driver()
    spaces = (Query(Space.KEYS, prefix, False), Query(Space.LEASES, "dns", True))
    views = {query: driver.state.answer(query) for query in spaces}
    for index, (operation, _) in enumerate(log):
        if isinstance(operation, Recover):
            continue
        driver.do(operation)
        if index == cut:
            views = {query: driver.state.answer(query) for query in spaces}
            if restored:
                driver.state.restore(driver.state.snapshot())
    for query, view in views.items():
        now = driver.state.answer(query)
        change = driver.state.answer(Query(query.space, query.name, query.exact, view.revision))
        seen = {} if change.complete else {entry.key: entry for entry in view.entries}
        for name in change.gone:
            seen.pop(name, None)
        seen.update({entry.key: entry for entry in change.entries})
        assert seen == {entry.key: entry for entry in now.entries}


def test_who_missed_too_much_gets_everything_anew() -> None:
    driver = Driver()
    driver.do(Put("a", b"0"))
    for number in range(5000):
        driver.do(Put("b", str(number).encode()))
    late = driver.state.answer(Query(Space.KEYS, "a", False, 1))
    assert late.complete
    assert [entry.key for entry in late.entries] == ["a"]
    recent = driver.state.answer(Query(Space.KEYS, "a", False, 3000))
    assert not recent.complete
    assert recent.entries == ()


def test_a_voter_that_is_behind_tells_nothing_to_who_saw_more() -> None:
    driver = Driver()
    driver.do(Put("a", b"1"))
    answer = driver.state.answer(Query(Space.KEYS, "", False, 5))
    assert (answer.revision, answer.complete, answer.entries) == (1, False, ())
