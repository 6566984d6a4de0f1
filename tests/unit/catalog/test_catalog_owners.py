"""Versions of one owner's rows: whatever arrives in whatever order, a copy never goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from constellation_core.catalog.owners import OwnerState, Update
from constellation_core.catalog.rows import Row, instance_row
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


CHANGES = st.lists(
    st.tuples(st.sampled_from(["web", "api", "job"]), st.none() | st.integers(0, 3)), max_size=15
)


@given(CHANGES, st.data())
def test_any_updates_in_any_order_lead_to_a_state_that_the_owner_had(
    changes: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    owner = OwnerState("a", 1, 1)
    history = {owner.version: living(owner)}
    updates = [owner.since(0)]
    for name, restarts in changes:
        change(owner, name, restarts)
        history[owner.version] = living(owner)
        base = data.draw(st.integers(0, owner.version - 1))
        updates.append(owner.since(base))
        if data.draw(st.booleans()):
            owner.bury([key for key, row in owner.rows.items() if row.value is None])
    arriving = data.draw(st.lists(st.sampled_from(updates), max_size=30))
    copy = OwnerState("a")
    for update in arriving:
        before = copy.version
        if copy.fits(update):
            copy.apply(update)
        assert copy.version >= before
        if copy.epoch:
            assert living(copy) == history[copy.version]


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
        owner.bury([key for key, row in owner.rows.items() if row.value is None])
    update = owner.since(copy.version)
    assert copy.fits(update) or copy.version == owner.version
    if copy.fits(update):
        copy.apply(update)
    assert living(copy) == living(owner)


def test_a_delta_on_top_of_a_gap_does_not_fit() -> None:
    owner = OwnerState("a", 1, 1)
    change(owner, "web", 1)
    change(owner, "api", 1)
    copy = OwnerState("a", 1, 1)
    delta = owner.since(2)
    assert not copy.fits(delta)
    assert copy.lacks(delta.epoch, delta.version)


def test_a_new_life_needs_a_snapshot_and_ends_the_old_rows() -> None:
    old = OwnerState("a", 1, 1)
    change(old, "web", 1)
    new = OwnerState("a", 2, 1)
    assert old.fits(new.since(0))
    changes = old.apply(new.since(0))
    assert [(key, now) for key, _, now in changes] == [("i/web.a", None)]
    change(new, "api", 1)
    late = OwnerState("a", 1, 1)
    assert not late.fits(new.since(1))


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
