"""What an instance's neighbours are told of its health, whatever it does."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.catalog.damping import FLAPS
from constellation_core.catalog.outbox import Outbox
from constellation_core.catalog.rows import MAX_ROWS, Row, Value, instance_row
from constellation_core.catalog.urgency import Urgency, urgency_of
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.published import PublishedService

GATHER, HOLD, TICK = 0.2, 5.0, 0.01
KEY = "i/web.a"


def instance(health: Health, **more: object) -> Instance:
    ports = {"http": int(str(more.pop("port", 80)))}
    return Instance("web.a", "web", "a", "10.0.0.1", ports, health, **more)  # type: ignore[arg-type]


class Observed:
    """An outbox, and what a neighbour knows that gets everything at once."""

    def __init__(self) -> None:
        self.shown: list[Value | None] = []
        self.outbox = Outbox(GATHER, HOLD, lambda _, value: self.shown.append(value))
        self.now = 0.0
        self.seen: Instance | None = None
        self.updates: list[tuple[float, Instance | None]] = []

    def run(self, seconds: float) -> None:
        """Take out what is due, at once whenever something is."""
        end = self.now + seconds
        while self.outbox.due <= end:
            self.now = max(self.now, self.outbox.due)
            for row, _ in self.outbox.take(self.now):
                assert row.value is None or isinstance(row.value, Instance)
                self.seen = row.value
                self.updates.append((self.now, row.value))
        self.now = end

    def put(self, value: Instance | None) -> None:
        if value is None:
            self.outbox.withdraw(KEY, self.now)
        else:
            self.outbox.put(instance_row(value, 0), self.now)


STATES = st.builds(
    lambda health, port, restarts: instance(health, port=port, restarts=restarts),
    st.sampled_from([h for h in Health if h not in (Health.UNREACHABLE, Health.SUSPECT)]),
    st.sampled_from([80, 80, 80, 81]),
    st.integers(0, 2),
)
SEQUENCES = st.lists(
    st.tuples(st.none() | STATES, st.floats(0, 8) | st.floats(0, 0.3)), max_size=40
)


@given(SEQUENCES)
def test_failures_are_told_at_once_and_recoveries_within_the_bound(
    sequence: list[tuple[Instance | None, float]],
) -> None:
    observed = Observed()
    well_since = ill_since = math.nan
    before: Instance | None = None
    for state, seconds in sequence:
        observed.put(state)
        well = state is not None and state.health.serves
        if well and state is not None and (before is None or before.ports != state.ports):
            well_since = observed.now
        well_since = well_since if well else math.nan
        ill_since = math.nan if well else (observed.now if ill_since != ill_since else ill_since)
        before = state if well else None
        end = observed.now + seconds
        while observed.now < end:
            observed.run(min(TICK if seconds < 1 else 0.5, end - observed.now))
            seen = observed.seen
            if seen is not None and seen.health.serves:
                assert not observed.now > ill_since + GATHER
                assert (
                    state is None
                    or not well
                    or seen.ports == state.ports
                    or (observed.now <= well_since + GATHER)
                )
            elif observed.now > well_since + HOLD + GATHER + TICK:
                pytest.fail("it has been well for long, and nobody was told")
    observed.run(2 * (HOLD + GATHER))
    final = sequence[-1][0] if sequence else None
    assert observed.seen == final
    assert observed.outbox.due == math.inf
    assert len(observed.updates) <= 6 * (observed.now / HOLD + 1) + 1
    ups = [
        at
        for (at, new), (_, old) in zip(
            observed.updates, [(0.0, None), *observed.updates], strict=False
        )
        if new is not None and new.health.serves and (old is None or not old.health.serves)
    ]
    assert all(b - a >= HOLD - GATHER for a, b in pairwise(ups))


def test_the_first_recovery_is_told_soon_and_the_next_one_is_held_back() -> None:
    observed = Observed()
    observed.put(instance(Health.STARTING))
    observed.run(1)
    observed.put(instance(Health.HEALTHY))
    observed.run(1)
    assert observed.seen == instance(Health.HEALTHY)
    observed.put(instance(Health.UNHEALTHY, reason="exited"))
    observed.run(0)
    assert observed.seen == instance(Health.UNHEALTHY, reason="exited")
    observed.put(instance(Health.HEALTHY))
    observed.run(1)
    assert observed.seen == instance(Health.UNHEALTHY, reason=FLAPS)
    assert observed.outbox.held_back() == {"web.a": 6.0}
    observed.run(3 + GATHER)
    assert observed.seen == instance(Health.HEALTHY)
    assert observed.outbox.held_back() == {}
    assert observed.shown[-1] == observed.seen


def test_several_changes_in_a_short_time_give_one_update() -> None:
    observed = Observed()
    for restarts in range(5):
        observed.put(instance(Health.STARTING, restarts=restarts))
        observed.run(0.03)
    observed.put(instance(Health.HEALTHY, restarts=5))
    observed.run(1)
    assert [seen for _, seen in observed.updates] == [instance(Health.HEALTHY, restarts=5)]


def test_what_came_and_went_at_once_is_not_told() -> None:
    observed = Observed()
    observed.put(instance(Health.STARTING))
    observed.put(None)
    observed.run(1)
    assert observed.updates == []


def test_an_instance_that_moved_is_out_until_it_may_be_told_where_it_is() -> None:
    observed = Observed()
    observed.put(instance(Health.HEALTHY))
    observed.run(1)
    observed.put(instance(Health.HEALTHY, port=81))
    observed.run(0)
    assert observed.seen == instance(Health.UNHEALTHY, port=81, reason=FLAPS)
    observed.run(HOLD)
    assert observed.seen == instance(Health.HEALTHY, port=81)


def test_another_definition_is_no_flapping() -> None:
    observed = Observed()
    for version in ("one", "two", "three"):
        observed.put(instance(Health.HEALTHY, version=version))
        observed.run(0.5)
        assert observed.seen == instance(Health.HEALTHY, version=version)
        observed.put(None)
        observed.run(0.1)


def test_an_instance_that_comes_and_goes_flaps_as_well() -> None:
    observed = Observed()
    for _ in range(40):
        observed.put(instance(Health.HEALTHY))
        observed.run(0.5)
        observed.put(None)
        observed.run(0.5)
    assert len(observed.updates) <= 6 * (40 / HOLD + 1) + 1
    assert len([seen for _, seen in observed.updates if seen and seen.health.serves]) <= 9


def test_the_most_urgent_comes_first() -> None:
    outbox = Outbox(GATHER, HOLD, lambda _key, _value: None)
    for name in ("a", "b", "c"):
        outbox.put(_row(name, Health.HEALTHY if name != "b" else Health.UNHEALTHY), 0.0)
    outbox.take(1.0)
    outbox.put(_row("a", Health.HEALTHY, weight=2), 10.0)
    outbox.put(_row("b", Health.HEALTHY), 10.0)
    outbox.put(_row("d", Health.STARTING), 10.0)
    outbox.put(_row("c", Health.UNHEALTHY), 10.0)
    assert [(row.key, urgency) for row, urgency in outbox.take(10.0)] == [
        ("i/c.a", Urgency.FAILING),
        ("i/d.a", Urgency.NEW),
        ("i/b.a", Urgency.OK),
        ("i/a.a", Urgency.METADATA),
    ]


def _row(name: str, health: Health, weight: int = 1) -> Row:
    return instance_row(Instance(f"{name}.a", name, "a", "::1", {}, health, weight), 0)


def test_definitions_are_urgent_when_they_are_new() -> None:
    one, two = PublishedService("web"), PublishedService("web", ports=())
    assert urgency_of(None, one) is Urgency.NEW
    assert urgency_of(one, two) is Urgency.METADATA
    assert urgency_of(one, None) is Urgency.METADATA


def test_there_is_room_for_so_many_rows_only() -> None:
    outbox = Outbox(GATHER, HOLD, lambda _key, _value: None)
    for number in range(MAX_ROWS):
        outbox.put(_row(f"s{number}", Health.HEALTHY), 0.0)
    assert not outbox.has_room(_row("one-more", Health.HEALTHY))
    assert outbox.has_room(_row("s1", Health.UNHEALTHY))
    outbox.withdraw("i/s1.a", 0.0)
    assert outbox.has_room(_row("one-more", Health.HEALTHY))


def test_nothing_is_kept_of_instances_that_are_gone() -> None:
    outbox = Outbox(GATHER, HOLD, lambda _key, _value: None)
    for number in range(100):
        outbox.put(_row(f"s{number}", Health.HEALTHY), float(number))
        outbox.take(number + 0.5)
        outbox.withdraw(f"i/s{number}.a", number + 0.6)
    outbox.take(1000.0)
    assert len(outbox._dampers) == 0
    assert outbox.size == 0
