"""The checker of lease histories: right ones pass, and each change that matters is found."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from constellation_core.testing.consensus.lease_history import Claim, FencedSink, Write, violations


@st.composite
def tenures(draw: st.DrawFn) -> list[tuple[str, int, list[float]]]:
    """Holder, epoch and the moments at which it acted, one tenure after the other."""
    epoch, found = 0, []
    for number in range(draw(st.integers(2, 5))):
        epoch += draw(st.integers(1, 3))
        offsets = draw(st.lists(st.floats(1, 99), min_size=2, max_size=5))
        moments = sorted(100.0 * number + offset for offset in offsets)
        found.append((f"n{number % 3}/{number}", epoch, moments))
    return found


def history(found: list[tuple[str, int, list[float]]]) -> list[Claim | Write]:
    events: list[Claim | Write] = []
    sink = FencedSink()
    for holder, epoch, moments in found:
        events += [Claim(at, holder, epoch) for at in moments]
        for at in moments:
            sink.write(at, holder, epoch)
    return [*events, *sink.events]


@given(tenures())
def test_tenures_one_after_the_other_pass(found: list[tuple[str, int, list[float]]]) -> None:
    assert violations(history(found)) == []


@given(tenures(), st.data())
def test_a_late_write_that_is_refused_passes(
    found: list[tuple[str, int, list[float]]], data: st.DataObject
) -> None:
    holder, epoch, _ = data.draw(st.sampled_from(found[:-1]))
    late = Write(found[-1][2][-1] + 1, holder, epoch, accepted=False)
    assert violations([*history(found), late]) == []
    assert violations([*history(found), replace(late, accepted=True)])


@given(tenures(), st.data())
def test_one_who_is_sure_for_too_long_is_found(
    found: list[tuple[str, int, list[float]]], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(found) - 2))
    holder, epoch, _ = found[number]
    begun = found[number + 1][2][0]
    assert violations([*history(found), Claim(begun + 0.001, holder, epoch)])


@given(tenures(), st.data())
def test_one_who_is_sure_too_early_is_found(
    found: list[tuple[str, int, list[float]]], data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, len(found) - 1))
    holder, epoch, _ = found[number]
    still = found[number - 1][2][-1]
    assert violations([*history(found), Claim(still - 0.001, holder, epoch)])


@given(tenures(), st.data())
def test_epochs_that_go_back_are_found(
    found: list[tuple[str, int, list[float]]], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(found) - 2))
    first, second = found[number], found[number + 1]
    found[number] = (first[0], second[1], first[2])
    found[number + 1] = (second[0], first[1], second[2])
    assert violations(history(found))


@given(tenures(), st.data())
def test_an_epoch_of_two_holders_is_found(
    found: list[tuple[str, int, list[float]]], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(found) - 2))
    holder, _, moments = found[number + 1]
    found[number + 1] = (holder, found[number][1], moments)
    assert violations(history(found))


def test_a_fenced_sink_refuses_what_is_older() -> None:
    sink = FencedSink()
    assert sink.write(1, "a", 1)
    assert sink.write(2, "b", 2)
    assert not sink.write(3, "a", 1)
    assert sink.write(4, "b", 2)
