"""The checker itself: right histories pass, wrong ones do not, and a slow one agrees with it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.testing.consensus.linearizability import (
    NEVER,
    Call,
    Kind,
    Observation,
    State,
    check,
    step,
)


def get(called: float, returned: float, value: bytes | None, revision: int) -> Call:
    seen = Observation(revision, value)
    return Call("c", "k", Kind.GET, called, returned, observed=seen)


def put(called: float, returned: float, value: bytes, revision: int, **more: object) -> Call:
    seen = Observation(revision)
    return Call("c", "k", Kind.PUT, called, returned, value, observed=seen, **more)  # type: ignore[arg-type]


def lost_put(called: float, value: bytes, expected: int | None = None) -> Call:
    return Call("c", "k", Kind.PUT, called, NEVER, value, expected)


def refused(called: float, returned: float, expected: int, revision: int) -> Call:
    seen = Observation(revision, done=False)
    return Call("c", "k", Kind.PUT, called, returned, b"x", expected, seen)


RIGHT = {
    "one after the other": [put(0, 1, b"a", 1), get(2, 3, b"a", 1)],
    "a read beside a write sees it or not": [
        put(0, 9, b"a", 1),
        get(1, 2, None, 0),
        get(3, 4, b"a", 1),
    ],
    "a lost write took place late": [
        lost_put(0, b"a"),
        get(1, 2, None, 0),
        get(3, 4, b"a", 1),
    ],
    "a lost write never took place": [lost_put(0, b"a"), get(1, 2, None, 0), get(8, 9, None, 0)],
    "of two that compare one succeeds": [
        put(0, 1, b"a", 1),
        put(2, 5, b"b", 2, expected=1),
        refused(2, 5, 1, 2),
        get(6, 7, b"b", 2),
    ],
    "a lost write gave the revision that is compared with": [
        lost_put(0, b"a"),
        put(1, 2, b"b", 7, expected=4),
    ],
    "deleted": [
        put(0, 1, b"a", 1),
        Call("c", "k", Kind.DELETE, 2, 3, observed=Observation()),
        get(4, 5, None, 0),
    ],
    "keys are apart": [put(0, 1, b"a", 1), replace(get(2, 3, None, 0), key="other")],
}

WRONG = {
    "an acknowledged write is lost": [put(0, 1, b"a", 1), get(2, 3, None, 0)],
    "a value from nowhere": [get(0, 1, b"a", 1)],
    "read backwards": [
        put(0, 1, b"a", 1),
        put(2, 9, b"b", 2),
        get(3, 4, b"b", 2),
        get(5, 6, b"a", 1),
    ],
    "two that compare succeed": [
        put(0, 1, b"a", 1),
        put(2, 5, b"b", 2, expected=1),
        put(2, 5, b"c", 3, expected=1),
    ],
    "done twice": [
        put(0, 1, b"a", 1),
        put(2, 3, b"b", 2),
        get(4, 5, b"a", 3),
    ],
    "a lost write took place before its call": [get(0, 1, b"a", 1), lost_put(2, b"a")],
    "a lost write took place, and then did not": [
        lost_put(0, b"a"),
        get(1, 2, b"a", 1),
        get(3, 4, None, 0),
    ],
    "refused without a reason": [put(0, 1, b"a", 1), refused(2, 3, 1, 1)],
    "refused for what is not there": [put(0, 1, b"a", 1), refused(2, 3, 5, 2)],
    "revisions go back": [put(0, 1, b"a", 5), put(2, 3, b"b", 4)],
    "a write is read after it was deleted": [
        put(0, 1, b"a", 1),
        Call("c", "k", Kind.DELETE, 2, 3, observed=Observation()),
        get(4, 5, b"a", 1),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_histories_pass(name: str) -> None:
    assert check(RIGHT[name]) is None


@pytest.mark.parametrize("name", WRONG)
def test_wrong_histories_do_not(name: str) -> None:
    violation = check(WRONG[name])
    assert violation is not None
    assert "not linearizable" in str(violation)
    assert len(violation.explained) + len(violation.rest) == len(WRONG[name])


@st.composite
def right_histories(draw: st.DrawFn) -> list[Call]:
    """Operations that took effect one after the other, each within its call."""
    state, revision, calls = State(), 0, []
    for moment in range(draw(st.integers(1, 7))):
        at = 10.0 * moment
        called = at - draw(st.integers(0, 35))
        returned = at + draw(st.integers(0, 35)) + 0.5
        kind = draw(st.sampled_from(Kind))
        expected = None
        if kind is not Kind.GET:
            expected = draw(st.sampled_from([None, 0, state.revision, revision]))
        lost = draw(st.sampled_from([False, False, False, True]))
        effect = not lost or draw(st.booleans())
        value = str(moment).encode()
        seen = Observation(state.revision, state.value)
        if kind is not Kind.GET:
            done = expected in (None, state.revision)
            seen = Observation(state.revision, done=False)
            if done:
                seen = Observation(revision + 1 if kind is Kind.PUT else None)
            if done and effect:
                revision += 1
                state = State(value, revision) if kind is Kind.PUT else State()
        call = Call("c", "k", kind, called, returned, value, expected, seen)
        calls.append(replace(call, returned=NEVER, observed=None) if lost else call)
    return calls


MUTATIONS = st.sampled_from(["value", "revision", "done", "earlier", "later", "swap"])


@st.composite
def changed_histories(draw: st.DrawFn) -> list[Call]:
    calls = draw(right_histories())
    number = draw(st.integers(0, len(calls) - 1))
    call = calls[number]
    seen = call.observed
    match draw(MUTATIONS):
        case "value" if seen is not None and call.kind is Kind.GET:
            value = draw(st.sampled_from([None, b"0", b"1", b"2"]))
            call = replace(call, observed=replace(seen, value=value))
        case "revision" if seen is not None:
            call = replace(call, observed=replace(seen, revision=draw(st.integers(0, 4))))
        case "done" if seen is not None and call.expected is not None:
            call = replace(call, observed=Observation(seen.revision or 1, done=not seen.done))
        case "earlier":
            length = min(call.returned - call.called, 5.0)
            start = draw(st.integers(-40, 60))
            lost = call.returned == NEVER
            call = replace(call, called=start, returned=NEVER if lost else start + length)
        case "later" if call.returned != NEVER:
            call = replace(call, called=call.called + 70, returned=call.returned + 70)
        case "swap" if seen is not None:
            other = draw(st.sampled_from(calls))
            if other.kind is call.kind and other.observed is not None:
                call = replace(call, observed=other.observed)
    return [*calls[:number], call, *calls[number + 1 :]]


def explained_by_trying(calls: list[Call]) -> bool:
    """Every order of every choice of the calls whose outcome is unknown."""
    lost = [call for call in calls if call.returned == NEVER]
    told = [call for call in calls if call.returned != NEVER]
    for choice in range(1 << len(lost)):
        chosen = told + [call for i, call in enumerate(lost) if choice >> i & 1]
        for order in permutations(chosen):
            latest = -math.inf
            for call in order:
                if call.returned < latest:
                    break
                latest = max(latest, call.called)
            else:
                states = {State()}
                for call in order:
                    states = {after for state in states for after in step(state, call)}
                if states:
                    return True
    return False


@given(right_histories())
@settings(max_examples=300)
def test_what_happened_one_after_the_other_passes(calls: list[Call]) -> None:
    violation = check(calls)
    assert violation is None, str(violation)


@given(changed_histories().filter(lambda calls: len(calls) <= 6))
@settings(max_examples=200, deadline=None)
def test_it_agrees_with_trying_every_order(calls: list[Call]) -> None:
    assert (check(calls) is None) == explained_by_trying(calls)


def test_many_changed_histories_are_wrong_so_that_agreement_means_something() -> None:
    verdicts: list[bool] = []

    @given(changed_histories())
    @settings(max_examples=200, database=None, derandomize=True)
    def collect(calls: list[Call]) -> None:
        verdicts.append(check(calls) is None)

    collect()
    assert verdicts.count(False) > 20
    assert verdicts.count(True) > 20


def test_long_histories_are_checked_quickly() -> None:
    """Ten clients at once all the time; without memory this would not end."""
    calls = []
    for number in range(400):
        at, revision = float(number), number + 1
        calls.append(put(at - 5, at + 5, str(number).encode(), revision))
        calls.append(get(at - 5.5, at + 5.5, str(number).encode(), revision))
        if number % 50 == 0:
            calls.append(lost_put(at, b"lost"))
    assert check(calls) is None
    calls.append(get(1000, 1001, b"3", 4))
    assert check(calls[790:]) is not None
