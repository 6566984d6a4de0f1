"""Versions of one owner's rows: whatever arrives in whatever order, a copy never goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.catalog.owners import Known, OwnerState, Update
from constellation_core.catalog.rows import MAX_ROWS, Row, instance_row
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance


def row(name: str, restarts: int, version: int) -> Row:
    instance = Instance(
        f"{name}.a", name, "a", "10.0.0.1", {}, health=Health.HEALTHY, restarts=restarts
    )
    return instance_row(instance, version)


def change(owner: OwnerState, name: str, restarts: int | None) -> None:
    """What an owner does to its own rows: put a value, or withdraw one."""
    version = owner.version + 1
    if restarts is None:
        known = owner.rows.get(f"i/{name}.a")
        if known is None or known.value is None:
            return
        new = Row(known.key, version, b"", None)
    else:
        new = row(name, restarts, version)
    owner.apply(Update(owner.owner, owner.epoch, owner.version, version, (new,)))


def living(state: OwnerState) -> dict[str, bytes]:
    return {key: row.data for key, row in state.rows.items() if row.value is not None}


def dead(state: OwnerState) -> list[str]:
    return [key for key, row in state.rows.items() if row.value is None]


CHANGES = st.lists(
    st.tuples(st.sampled_from(["web", "api", "job"]), st.none() | st.integers(0, 3)), max_size=15
)


@given(CHANGES, st.data())
def test_any_updates_in_any_order_never_lead_back(
    changes: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    owner = OwnerState("a", 1, 1)
    history = {owner.version: living(owner)}
    latest: dict[str, list[tuple[int, bytes]]] = {}
    updates = [owner.since(0)]
    for name, restarts in changes:
        change(owner, name, restarts)
        history[owner.version] = living(owner)
        for key, known in owner.rows.items():
            latest.setdefault(key, []).append((known.version, known.data))
        base = data.draw(st.integers(0, owner.version - 1))
        updates.append(owner.since(base))
        if data.draw(st.booleans()):
            owner.bury(dead(owner))
    arriving = data.draw(st.lists(st.sampled_from(updates), max_size=30))
    copy = OwnerState("a")
    for update in arriving:
        before, rows = copy.version, dict(copy.rows)
        news = copy.is_news(update)
        copy.apply(update)
        assert copy.version >= before
        for key, known in copy.rows.items():
            assert (known.version, known.data) in latest[key]
            assert key not in rows or known.version >= rows[key].version
        if copy.complete:
            assert living(copy) == history[copy.version]
        assert news or (copy.version, copy.rows) == (before, rows)
        assert copy.size == sum(known.size for known in copy.rows.values())
    copy.apply(owner.since(copy.version if copy.epoch else 0))
    assert living(copy) == living(owner)
    assert copy.known == owner.known


@given(CHANGES, st.integers(0, 20), st.booleans())
def test_since_brings_every_copy_up_to_date(
    changes: list[tuple[str, int | None]], known: int, bury: bool
) -> None:
    owner, copy = OwnerState("a", 7, 1), OwnerState("a")
    copy.apply(owner.since(0))
    for number, (name, restarts) in enumerate(changes):
        change(owner, name, restarts)
        if number < known and owner.version > copy.version:
            copy.apply(owner.since(copy.version))
    if bury:
        owner.bury(dead(owner))
    copy.apply(owner.since(copy.version))
    assert living(copy) == living(owner)
    assert copy.known == owner.known


@given(CHANGES, st.permutations(range(15)))
def test_each_part_of_a_change_counts_by_itself_and_all_lead_to_the_whole(
    changes: list[tuple[str, int | None]], order: list[int]
) -> None:
    owner, copy = OwnerState("a", 1, 1), OwnerState("a")
    copy.apply(owner.since(0))
    parts = []
    for name, restarts in changes:
        before = owner.version
        change(owner, name, restarts)
        if owner.version > before:
            parts.append(owner.since(before))
    for part in (parts[number] for number in order if number < len(parts)):
        copy.apply(part)
        for new in part.rows:
            assert copy.rows[new.key].version >= new.version
    assert living(copy) == living(owner)
    assert copy.known == owner.known


def test_what_comes_beyond_a_gap_is_kept_but_not_vouched_for() -> None:
    owner = OwnerState("a", 1, 1)
    change(owner, "web", 1)
    change(owner, "api", 1)
    copy = OwnerState("a", 1, 1)
    copy.apply(owner.since(2))
    assert set(living(copy)) == {"i/api.a"}
    assert (copy.version, copy.heard, copy.complete) == (1, 3, False)
    assert copy.known.mark == 0
    assert copy.lacks(owner.known)
    late = OwnerState("a", 1, 1)
    change(late, "web", 1)
    copy.apply(late.since(0))
    assert copy.known == owner.known


def test_an_announcement_tells_that_there_is_more() -> None:
    copy = OwnerState("a", 1, 1)
    announced = Update("a", 1, 9, 9, ())
    assert copy.is_news(announced)
    copy.apply(announced)
    assert (copy.version, copy.heard) == (1, 9)
    assert not copy.is_news(announced)


def test_a_new_life_ends_the_old_rows() -> None:
    old = OwnerState("a", 1, 1)
    change(old, "web", 1)
    new = OwnerState("a", 2, 1)
    changes = old.apply(new.since(0))
    assert [(key, now) for key, _, now in changes] == [("i/web.a", None)]
    change(new, "api", 1)
    late = OwnerState("a", 1, 1)
    change(late, "web", 1)
    late.apply(new.since(1))
    assert (late.epoch, late.version, set(living(late))) == (2, 0, {"i/api.a"})


def test_who_missed_a_buried_tombstone_gets_a_snapshot() -> None:
    owner = OwnerState("a", 1, 1)
    change(owner, "web", 1)
    copy = OwnerState("a")
    copy.apply(owner.since(0))
    change(owner, "web", None)
    change(owner, "api", 1)
    owner.bury(["i/web.a"])
    update = owner.since(copy.version)
    assert update.base == 0
    copy.apply(update)
    assert set(living(copy)) == {"i/api.a"}


@given(CHANGES, CHANGES)
def test_all_said_anew_outdoes_whatever_others_believe(
    changes: list[tuple[str, int | None]], lies: list[tuple[str, int | None]]
) -> None:
    owner, liar = OwnerState("a", 1, 1), OwnerState("a", 1, 1)
    for name, restarts in changes:
        change(owner, name, restarts)
    for name, restarts in lies:
        change(liar, name, restarts)
    before = living(owner)
    owner.restamp(1, max(owner.version, liar.version) + 1)
    assert living(owner) == before
    update = owner.since(liar.version)
    liar.apply(update)
    assert living(liar) == before
    assert liar.known == owner.known


def test_the_same_version_with_other_rows_is_noticed() -> None:
    one, other, equal = (OwnerState("a", 1, 1) for _ in range(3))
    change(one, "web", 1)
    change(other, "web", 2)
    change(equal, "web", 1)
    assert one.known.contradicts(other.known)
    assert not one.known.contradicts(equal.known)
    assert not one.known.contradicts(Known(1, 2, 0))
    other.apply(one.since(0), instead=True)
    assert other.known == one.known


def test_more_rows_than_an_owner_may_have_change_nothing() -> None:
    copy = OwnerState("a", 1, 1)
    change(copy, "web", 1)
    before = copy.known
    one = row("web", 1, 9)
    many = tuple(Row(f"i/s{n}.a", 9, one.data, one.value) for n in range(MAX_ROWS + 1))
    for update, most in ((Update("a", 1, 0, 9, many), 2**30), (Update("a", 1, 0, 9, (one,)), 50)):
        with pytest.raises(ValueError, match="more than fits"):
            copy.apply(update, most=most)
    assert copy.known == before


def test_damaged_rows_make_a_copy_that_nobody_is_given() -> None:
    copy = OwnerState("a", 1, 1)
    copy.apply(Update("a", 1, 1, 2, (row("web", 1, 2),), damaged=True))
    assert not copy.complete
    copy.apply(Update("a", 1, 2, 3, (row("web", 2, 3),)))
    assert not copy.complete
    copy.apply(Update("a", 1, 0, 4, (row("web", 2, 3),)))
    assert copy.complete
