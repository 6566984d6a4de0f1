"""Lives of a node, and clocks and disks that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.agent.data_dir import DataDir
from constellation_core.catalog.standing import AHEAD, plausible
from constellation_core.model.health import Health
from constellation_core.testing.catalog_fleet import Fleet
from constellation_core.testing.network import EPOCH_2023

DAY = 86_400


def restart(fleet: Fleet, name: str, epoch: int | None = None, clock_offset: float = 0.0) -> None:
    """Kill a node and start it with an empty catalog."""
    fleet.node(name).kill()
    fleet.network.run_for(1)
    fleet.start(name, epoch, clock_offset=clock_offset)
    others = [other for other in fleet.names if other != name]
    fleet.node(name).join(fleet.node(others[0]))


@pytest.mark.parametrize(
    "epoch",
    [EPOCH_2023 - DAY, EPOCH_2023, EPOCH_2023 + 2, 1],
    ids=["clock set back", "backup of this very life", "a second later", "no clock, no disk"],
)
def test_a_restarted_node_is_believed_whatever_its_clock_and_disk_say(epoch: int) -> None:
    fleet = Fleet(4)
    for number in range(30):
        fleet.put("node-1", f"old-{number}")
    fleet.put("node-1", "web", restarts=5)
    fleet.converge()
    restart(fleet, "node-1", epoch)
    fleet.put("node-1", "web", restarts=6)
    fleet.put("node-1", "new")

    def right() -> bool:
        return all(
            {each.id: (each.restarts, each.health) for each in view}
            == {"new.node-1": (0, Health.HEALTHY), "web.node-1": (6, Health.HEALTHY)}
            for view in fleet.views().values()
        )

    assert fleet.network.run_until(right, limit=30) <= 15
    # And so it stays.
    fleet.network.run_for(60)
    assert right()
    assert all(catalog.stats.outdone <= 2 for catalog in fleet.catalogs.values())


def test_rows_of_an_earlier_life_come_back_from_nobody() -> None:
    fleet = Fleet(5)
    fleet.put("node-1", "web")
    fleet.converge()
    asleep = fleet.node("node-4")
    fleet.network.conditions.split([asleep], [fleet.node(f"node-{n}") for n in range(4)])
    fleet.network.run_for(5)
    restart(fleet, "node-1", EPOCH_2023 - DAY)
    fleet.network.run_for(60)
    fleet.network.conditions.heal()
    fleet.network.run_until(
        lambda: fleet.network.agrees_on_members() and fleet.all_see("web.node-1", None), limit=60
    )
    fleet.network.run_for(30)
    assert fleet.all_see("web.node-1", None)


def test_a_life_that_began_in_the_future_is_refused_and_leads_nobody_there() -> None:
    fleet = Fleet(4)
    fleet.put("node-2", "web")
    fleet.converge()
    before = {name: fleet.catalogs[name].epoch for name in fleet.names}
    fleet.start("late", clock_offset=2 * AHEAD)
    fleet.node("late").join(fleet.node("node-0"))
    fleet.put("late", "web")
    fleet.network.run_for(60)
    others = [name for name in fleet.names if name != "late"]
    for name in others:
        assert fleet.health(name, "web.late") is None
        assert fleet.health(name, "web.node-2") is Health.HEALTHY
        assert "late began" in fleet.catalogs[name].stats.last_rejected
    assert {name: fleet.catalogs[name].epoch for name in others} == before


def test_a_node_whose_clock_is_right_again_is_taken() -> None:
    fleet = Fleet(4)
    saved: list[int] = []
    # Its disk remembers a life in the future, from when its clock was wrong.
    fleet.start("late", EPOCH_2023 + 100 * DAY, on_epoch=saved.append)
    fleet.node("late").join(fleet.node("node-0"))
    fleet.put("late", "web")
    fleet.network.run_until(lambda: fleet.all_see("web.late", Health.HEALTHY), limit=30)
    assert [EPOCH_2023 <= epoch < EPOCH_2023 + 60 for epoch in saved] == [True]


def test_a_node_without_a_clock_believes_the_others() -> None:
    fleet = Fleet(4)
    for name in fleet.names:
        fleet.put(name, "web")
    fleet.converge()
    fleet.start("late", clock_offset=-20 * 365 * DAY)
    fleet.node("late").join(fleet.node("node-0"))
    fleet.put("late", "web")
    fleet.network.run_until(lambda: len(fleet.catalogs["late"].instances()) == 5, limit=20)
    fleet.network.run_until(lambda: fleet.all_see("web.late", Health.HEALTHY), limit=20)


def test_one_of_two_namesakes_publishes_and_none_runs_away_with_its_epoch() -> None:
    fleet = Fleet(4)
    fleet.put("node-1", "web")
    fleet.converge()
    first, catalog = fleet.node("node-1"), fleet.catalogs["node-1"]
    del fleet.network.nodes["node-1"]
    fleet.network.run_for(1)
    twin = fleet.start("node-1")
    fleet.node("node-1").join(fleet.node("node-0"))
    fleet.put("node-1", "other")
    fleet.network.run_for(120)
    for name in ("node-0", "node-2", "node-3"):
        assert [each.id for each in fleet.catalogs[name].instances()] == ["web.node-1"]
    now = EPOCH_2023 + fleet.network.now
    assert first.running
    assert catalog.epoch < now
    assert twin.epoch < now
    assert catalog.stats.outdone + twin.stats.outdone < 130 / 5


@given(
    st.integers(0, 2**40),
    st.floats(0, 2**40),
    st.lists(st.integers(0, 2**40), max_size=9),
)
def test_only_a_majority_can_say_that_the_clock_is_wrong(
    epoch: int, now: float, others: list[int]
) -> None:
    ahead = sum(other > now + AHEAD for other in others)
    expected = epoch <= now + AHEAD or ahead > len(others) - ahead
    assert plausible(epoch, now, others) is expected


def test_a_restored_data_directory_gives_an_epoch_of_now(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    backup = data.next_epoch(1_000)
    assert data.next_epoch(2_000) == 2_000
    data.save_epoch(backup)
    assert data.next_epoch(3_000) == 3_000
    assert data.next_epoch(2_500) == 3_001
    (tmp_path / "epoch").unlink()
    assert data.next_epoch(2_600) == 2_600
