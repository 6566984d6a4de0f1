"""The catalog among simulated nodes: everybody sees what every owner last said."""

from __future__ import annotations

from random import Random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.catalog import Catalog, CatalogConfig, RowError
from constellation_core.catalog.messages import decode
from constellation_core.catalog.owners import Update
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.messages import UserMessage
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.port import Port
from constellation_core.model.published import PublishedService
from constellation_core.testing.catalog_fleet import Fleet
from constellation_core.testing.network import EPOCH_2023


def test_a_change_reaches_everybody_in_a_second() -> None:
    times = []
    for seed in range(8):
        fleet = Fleet(20, seed)
        fleet.put("node-3", "web")
        for health in (Health.HEALTHY, Health.UNHEALTHY):
            fleet.put("node-3", "web", health)
            times.append(
                fleet.network.run_until(
                    lambda f=fleet, h=health: all(  # type: ignore[misc]
                        f.health(name, "web.node-3") is h for name in f.names
                    ),
                    limit=20,
                )
            )
    times.sort()
    # A broadcast now and then misses a node, which finds out when it next compares.
    assert times[-3] <= 1.0
    assert times[-1] <= 15.0


def test_what_is_withdrawn_is_gone_everywhere() -> None:
    fleet = Fleet(5)
    fleet.put("node-1", "web")
    fleet.put("node-1", "api")
    fleet.network.run_for(3)
    fleet.catalogs["node-1"].withdraw_instance("web.node-1")
    fleet.network.run_for(3)
    assert {tuple(i.id for i in view) for view in fleet.views().values()} == {("api.node-1",)}


def test_a_late_node_gets_all_and_is_warm_then() -> None:
    fleet = Fleet(4)
    for node in fleet.names:
        for number in range(30):
            fleet.put(node, f"s{number}")
    fleet.converge()
    late = fleet.start("late")
    assert not late.warm
    fleet.node("late").join(fleet.node("node-0"))
    fleet.network.run_until(lambda: late.warm, limit=5)
    assert len(late.instances()) == 120


def test_more_rows_than_a_datagram_holds_are_pulled() -> None:
    fleet = Fleet(6)
    for number in range(300):
        fleet.put("node-2", f"service-{number}")
    fleet.network.run_until(
        lambda: all(len(view) == 300 for view in fleet.views().values()), limit=20
    )
    assert all(catalog.stats.rejected == 0 for catalog in fleet.catalogs.values())


def test_a_dead_nodes_instances_are_unreachable_and_a_suspects_are_suspect() -> None:
    fleet = Fleet(4)
    fleet.put("node-1", "web")
    fleet.network.run_for(3)
    fleet.node("node-1").kill()
    seen: set[Health | None] = set()

    def unreachable() -> bool:
        seen.add(fleet.health("node-0", "web.node-1"))
        return all(fleet.health(n, "web.node-1") is Health.UNREACHABLE for n in fleet.names)

    fleet.network.run_until(unreachable, limit=20)
    assert seen == {Health.HEALTHY, Health.SUSPECT, Health.UNREACHABLE}


def test_rows_of_an_earlier_life_are_not_believed() -> None:
    fleet = Fleet(3)
    fleet.put("node-1", "web")
    fleet.network.run_for(3)
    fleet.node("node-1").kill()
    fleet.network.run_for(1)
    again = fleet.start("node-1")
    fleet.node("node-1").join(fleet.node("node-0"))
    fleet.network.run_for(5)
    assert again.instances() == []
    assert fleet.catalogs["node-2"].instances() == []


def test_a_definition_of_the_majority_is_in_force() -> None:
    fleet = Fleet(3)
    old = PublishedService("web", ports=(Port("http", 80),))
    new = PublishedService("web", ports=(Port("http", 81),))
    for node, service in (("node-0", new), ("node-1", old), ("node-2", new)):
        fleet.catalogs[node].publish_service(service)
    fleet.network.run_for(5)
    assert all(c.services()["web"] == new for c in fleet.catalogs.values())
    fleet.catalogs["node-0"].withdraw_service("web")
    fleet.catalogs["node-2"].withdraw_service("web")
    fleet.network.run_for(5)
    assert all(c.services()["web"] == old for c in fleet.catalogs.values())


def test_what_others_would_refuse_is_refused_where_it_is_published() -> None:
    catalog = Catalog("a", 1, Random(1))
    with pytest.raises(RowError):
        catalog.publish_instance(Instance("web.b", "web", "b", "not-an-address"))


BAD_ROW = msgpack.packb(["web", "10.0.0.1", {"http": 80}, 99, 1, [], "", "", 0])


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1\xff",
        b"\xc1" + bytes(500),
        b"\x00",
        b"\xc1" + msgpack.packb(["node-0", EPOCH_2023, 0, 9, [["i/web.node-0", 9, BAD_ROW]]]),
        b"\xc1" + msgpack.packb(["node-0", EPOCH_2023, 0, 9, [["i/web.node-2", 9, b""]]]),
        b"\xc1" + msgpack.packb(["node-0", EPOCH_2023, 0, 9, []]) + b"more",
    ],
)
def test_a_bad_value_stops_at_the_first_neighbour(payload: bytes) -> None:
    fleet = Fleet(3)
    fleet.put("node-2", "web")
    fleet.converge()
    before = fleet.catalogs["node-2"].instances()
    fleet.node("node-0").protocol.send(fleet.node("node-1").address, UserMessage(payload))
    fleet.node("node-0").flush()
    fleet.network.run_for(5)
    assert fleet.catalogs["node-1"].stats.rejected == 1
    assert fleet.catalogs["node-2"].stats.rejected == 0
    assert all(view == before for view in fleet.views().values())
    assert fleet.network.agrees_on_members()


def test_calm_nodes_compare_without_a_connection_and_what_was_missed_is_found() -> None:
    fleet = Fleet(4)
    fleet.put("node-0", "web")
    fleet.network.run_for(120)
    assert fleet.agrees()

    def requests() -> int:
        stats = [node.protocol.stats for node in fleet.network.running()]
        return sum(each.streams_out.by_kind().get("user", (0, 0))[0] for each in stats)

    before = requests()
    fleet.network.run_for(120)
    assert requests() == before
    fleet.network.conditions.split(*([fleet.node(name)] for name in fleet.names))
    fleet.put("node-0", "web", Health.UNHEALTHY)
    # Until it is sent on no more; too short for anybody to be taken for dead.
    fleet.network.run_for(1.5)
    assert not fleet.agrees()
    fleet.network.conditions.heal()
    fleet.converge(limit=40)
    assert requests() > before


def test_the_bucket_bounds_what_a_node_sends() -> None:
    fleet = Fleet(10, config=CatalogConfig(bytes_per_second=2_000, burst=4_000))
    fleet.network.run_for(5)
    nodes = [fleet.node(name) for name in fleet.names]
    before = {node.name: node.protocol.stats.bytes_out for node in nodes}
    for second in range(20):
        for name in fleet.names:
            for number in range(5):
                fleet.put(name, f"s{number}", restarts=second)
        fleet.network.run_for(1)
    for node in nodes:
        # Probing takes a few hundred bytes per second beside the catalog.
        assert node.protocol.stats.bytes_out - before[node.name] < 20 * 2_900 + 4_000
    fleet.converge()


STEPS = ["put", "fail", "withdraw", "kill", "restart", "restore", "split", "heal", "loss"]


@settings(max_examples=12)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(
            st.sampled_from(STEPS),
            st.integers(0, 3),
            st.sampled_from(["web", "api"]),
            st.floats(0.05, 8),
        ),
        max_size=15,
    ),
)
def test_whatever_happened_all_see_what_the_owners_said(
    seed: int, steps: list[tuple[str, int, str, float]]
) -> None:
    fleet = Fleet(4, seed)
    said: dict[str, dict[str, tuple[int, Health]]] = {name: {} for name in fleet.names}
    known: dict[tuple[Catalog, str], tuple[int, int]] = {}

    def nobody_goes_back() -> None:
        for catalog in fleet.catalogs.values():
            for owner, (epoch, version) in catalog.versions().items():
                before = known.get((catalog, owner), (0, 0))
                assert before[0] != epoch or before[1] <= version
                known[catalog, owner] = (epoch, version)

    for number, (what, who, service, seconds) in enumerate(steps):
        name = f"node-{who}"
        running = fleet.node(name).running
        match what:
            case "put" | "fail" if running:
                health = Health.HEALTHY if what == "put" else Health.CRASH_LOOPING
                fleet.put(name, service, health, restarts=number)
                said[name][f"{service}.{name}"] = (number, health)
            case "withdraw" if running:
                fleet.catalogs[name].withdraw_instance(f"{service}.{name}")
                said[name].pop(f"{service}.{name}", None)
            case "kill" if running and len(fleet.names) > 1:
                fleet.node(name).kill()
            case "restart" | "restore":
                fleet.node(name).kill()
                fleet.network.run_for(1)
                # A backup of its disk, and a clock that was set back with it.
                fleet.start(name, EPOCH_2023 if what == "restore" else None)
                said[name] = {}
                others = [other for other in fleet.names if other != name]
                if others:
                    fleet.node(name).join(fleet.node(others[0]))
            case "split":
                nodes = list(fleet.network.nodes.values())
                fleet.network.conditions.split(nodes[:2], nodes[2:])
            case "heal":
                fleet.network.conditions.heal()
            case "loss":
                fleet.network.conditions.loss = who / 10
        fleet.network.run_for(seconds)
        nobody_goes_back()
    fleet.network.conditions.heal()
    fleet.network.conditions.loss = 0
    expected = {name: what for owner in fleet.names for name, what in said[owner].items()}

    def right() -> bool:
        nobody_goes_back()
        return all(
            {
                each.id: (each.restarts, each.health)
                for each in view
                if each.health is not Health.UNREACHABLE
            }
            == expected
            for view in fleet.views().values()
        )

    fleet.network.run_until(right, limit=90)


def test_a_change_of_one_row_among_ten_travels_without_the_others() -> None:
    fleet = Fleet(8)
    for number in range(10):
        fleet.put("node-1", f"s{number}")
    fleet.converge()
    fleet.network.run_for(6)  # until all that was announced can be taken to be known
    seen = hear(fleet)
    fleet.put("node-1", "s3", restarts=1)
    fleet.network.run_for(1)
    fleet.put("node-1", "s4", restarts=2)
    fleet.converge()
    # The second broadcast holds the first change too: who missed that can apply it all the same.
    assert seen == [{"i/s3.node-1"}, {"i/s3.node-1", "i/s4.node-1"}]
    assert all(catalog.stats.gaps == 0 for catalog in fleet.catalogs.values())


def hear(fleet: Fleet) -> list[set[str]]:
    """Keys of the rows in every new broadcast of node-1 that node-2 hears from now on."""
    heard: list[set[str]] = []
    delegate = fleet.catalogs["node-2"]
    take = delegate.on_message

    def on_message(payload: bytes) -> None:
        message = decode(payload)
        if isinstance(message, Update) and message.owner == "node-1":
            keys = {row.key for row in message.rows}
            if keys not in heard:
                heard.append(keys)
        take(payload)

    delegate.on_message = on_message  # type: ignore[method-assign]
    return heard


def test_who_missed_what_a_change_builds_on_pulls_it() -> None:
    fleet = Fleet(4, config=CatalogConfig(sync_interval=1_000))
    for number in range(10):
        fleet.put("node-1", f"s{number}")
    fleet.converge()
    fleet.network.run_for(62)  # until views, too, are exchanged every 30 s only
    fleet.network.conditions.udp_blocked.add("node-2")
    fleet.put("node-1", "s3", restarts=1)
    fleet.network.run_for(2)
    fleet.network.conditions.heal()
    fleet.network.run_for(4)
    fleet.put("node-1", "s4", restarts=2)
    assert fleet.converge() <= 1.5
    assert fleet.catalogs["node-2"].stats.gaps >= 1


def test_a_change_of_everything_converges_and_failing_rows_overtake() -> None:
    # Pulls are slow here, so that it shows what the bucket does.
    slow = CatalogConfig(bytes_per_second=2_000, burst=2_000, pull_delay=20)
    fleet = Fleet(10, config=slow)
    for name in fleet.names:
        for number in range(100):
            fleet.put(name, f"s{number}")
    fleet.converge(limit=120)
    fleet.network.run_for(10)
    for name in fleet.names:
        for number in range(100):
            fleet.put(name, f"s{number}", restarts=1)
    fleet.network.run_for(1)
    # Failures do not wait for all of this.
    fleet.put("node-3", "s50", Health.UNHEALTHY)
    failing = fleet.network.run_until(
        lambda: fleet.all_see("s50.node-3", Health.UNHEALTHY), limit=60
    )
    assert failing <= 2
    assert not fleet.agrees()
    assert fleet.converge(limit=60) <= 30


def test_a_mass_failure_is_told_before_everything_else() -> None:
    fleet = Fleet(8)
    for number in range(100):
        fleet.put("node-1", f"s{number}", Health.HEALTHY)
    fleet.converge()
    fleet.network.run_for(10)
    for number in range(100):
        fleet.put("node-1", f"s{number}", Health.HEALTHY, restarts=1)
    for number in (7, 77):
        fleet.put("node-1", f"s{number}", Health.CRASH_LOOPING)
    seconds = fleet.network.run_until(
        lambda: (
            fleet.all_see("s7.node-1", Health.CRASH_LOOPING)
            and fleet.all_see("s77.node-1", Health.CRASH_LOOPING)
        ),
        limit=10,
    )
    assert seconds <= 1
    fleet.converge()


def test_tombstones_are_forgotten_by_all_and_stay_dead() -> None:
    fleet = Fleet(4, config=CatalogConfig(tombstone_seconds=60))
    for number in range(30):
        fleet.put("node-1", f"s{number}")
    fleet.converge()
    for number in range(25):
        fleet.catalogs["node-1"].withdraw_instance(f"s{number}.node-1")
    fleet.converge()
    fleet.network.conditions.split([fleet.node("node-3")], [fleet.node("node-0")])
    fleet.network.run_for(80)
    for name in fleet.names:
        rows = fleet.catalogs[name]._replica.state("node-1").rows
        assert sorted(rows) == sorted(f"i/s{number}.node-1" for number in range(25, 30))
    fleet.put("node-1", "s0", restarts=1)
    fleet.network.conditions.heal()
    fleet.converge()
    assert len(fleet.catalogs["node-3"].instances()) == 6


def test_who_was_away_for_longer_than_tombstones_live_forgets_what_is_gone() -> None:
    fleet = Fleet(4, config=CatalogConfig(tombstone_seconds=60))
    for number in range(30):
        fleet.put("node-1", f"s{number}")
    fleet.converge()
    away = fleet.node("node-3")
    fleet.network.conditions.split([away], [fleet.node(f"node-{n}") for n in range(3)])
    fleet.network.run_for(5)
    for number in range(25):
        fleet.catalogs["node-1"].withdraw_instance(f"s{number}.node-1")
    fleet.network.run_for(120)
    assert len(fleet.catalogs["node-3"].instances()) == 30
    fleet.network.conditions.heal()
    fleet.network.run_until(lambda: len(fleet.catalogs["node-3"].instances()) == 5, limit=60)
    fleet.converge()


def test_rows_of_a_dead_node_are_kept_for_a_day_and_of_one_that_left_for_an_hour() -> None:
    config = GossipConfig("a")
    assert (config.forget_dead, config.forget_left) == (86_400, 3_600)


@pytest.mark.parametrize(("goodbye", "minutes"), [(True, 5), (False, 10)])
def test_rows_of_a_node_that_is_gone_are_dropped_in_the_end(goodbye: bool, minutes: int) -> None:
    def soon(name: str) -> GossipConfig:
        return GossipConfig(name, forget_dead=600, forget_left=300)

    fleet = Fleet(3, gossip=soon)
    fleet.put("node-2", "web")
    fleet.catalogs["node-2"].publish_service(PublishedService("web"))
    fleet.converge()
    if goodbye:
        fleet.node("node-2").leave()
        fleet.network.run_for(2)
    fleet.node("node-2").kill()
    fleet.network.run_for(minutes * 60 - 20)
    assert fleet.all_see("web.node-2", Health.UNREACHABLE)
    fleet.network.run_for(90)
    assert fleet.all_see("web.node-2", None)
    for name in fleet.names:
        catalog = fleet.catalogs[name]
        assert catalog.services() == {}
        assert "node-2" not in catalog.versions()
        assert len(catalog._queue) == 0


def test_two_nodes_may_mean_the_same_instance_id() -> None:
    fleet = Fleet(2)
    fleet.start("n")
    fleet.start("n.1")
    for name in ("n", "n.1"):
        fleet.node(name).join(fleet.node("node-0"))
        web = Instance("web.n.1", "web", name, "10.0.0.1", {}, Health.HEALTHY)
        fleet.catalogs[name].publish_instance(web)
    fleet.network.run_for(5)
    assert {view[0].node for view in fleet.views().values()} == {"n.1"}
    fleet.catalogs["n.1"].withdraw_instance("web.n.1")
    fleet.network.run_for(5)
    assert {view[0].node for view in fleet.views().values()} == {"n"}
    fleet.catalogs["n"].withdraw_instance("web.n.1")
    fleet.network.run_for(5)
    assert all(view == [] for view in fleet.views().values())


def test_large_states_are_pulled_in_pieces_one_question_at_a_time() -> None:
    fleet = Fleet(3)
    for name in fleet.names:
        for number in range(4_000):
            fleet.put(name, f"service-{number}")
    fleet.converge(limit=120)
    late = fleet.start("late")
    sizes: list[int] = []
    asked: list[int] = []
    for name in ("node-0", "node-1", "node-2"):
        catalog = fleet.catalogs[name]
        answer = catalog.on_request

        def on_request(payload: bytes, answer: object = answer) -> bytes | None:
            assert callable(answer)
            reply: bytes | None = answer(payload)
            sizes.append(max(len(payload), len(reply or b"")))
            assert late._sync is not None
            asked.append(len(late._sync._asked))
            return reply

        catalog.on_request = on_request  # type: ignore[method-assign]
    fleet.node("late").join(fleet.node("node-0"))
    fleet.network.run_until(lambda: len(late.instances()) == 12_000, limit=30)
    assert max(sizes) < 600_000
    assert sum(sizes) > 900_000
    assert max(asked) <= 3


def test_a_node_publishes_no_more_than_others_take() -> None:
    fleet = Fleet(2)
    long = "x" * 200

    def publish_many() -> None:
        for number in range(5_000):
            fleet.catalogs["node-0"].publish_instance(
                Instance(f"s{number}.node-0", f"s{number}", "node-0", "::1", {}, reason=long)
            )

    with pytest.raises(RowError, match="too much"):
        publish_many()
    fleet.converge()
    assert len(fleet.catalogs["node-1"].instances()) > 2_000
    fleet.put("node-0", "s1")
    assert fleet.converge() < 5


def test_what_all_nodes_publish_is_bounded_too() -> None:
    fleet = Fleet(4)
    catalog = fleet.catalogs["node-0"]
    catalog._replica._most_bytes = 20_000
    for name in ("node-1", "node-2"):
        for number in range(110):
            fleet.put(name, f"s{number}")
    fleet.network.run_for(30)
    held = {owner: catalog._replica.state(owner).size for owner in ("node-1", "node-2")}
    assert sum(held.values()) == catalog._replica._bytes
    assert 10_000 < sum(held.values()) <= 20_000
    assert "more than fits" in catalog.stats.last_rejected
    # What does not grow is still taken.
    full = max(held, key=lambda owner: held[owner])
    fleet.put(full, "s3", Health.UNHEALTHY)
    fleet.network.run_until(
        lambda: fleet.health("node-0", f"s3.{full}") is Health.UNHEALTHY, limit=15
    )
