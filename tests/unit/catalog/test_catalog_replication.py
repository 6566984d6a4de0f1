"""The catalog among simulated nodes: everybody sees what every owner last said."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.catalog import Catalog, CatalogConfig, RowError, with_epoch
from constellation_core.catalog.messages import decode
from constellation_core.catalog.owners import Update
from constellation_core.gossip.member import encode_tags
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.port import Port
from constellation_core.model.published import PublishedService
from constellation_core.testing.network import EPOCH_2023, SimulatedNetwork
from constellation_core.testing.simulated_node import SimulatedNode


class Fleet:
    """A simulated network of nodes that each have a catalog."""

    def __init__(self, size: int, seed: int = 1, config: CatalogConfig | None = None) -> None:
        self.network = SimulatedNetwork(seed)
        self.catalogs: dict[str, Catalog] = {}
        self._config = config
        for number in range(size):
            self.start(f"node-{number}")
        for name in self.names[1:]:
            self.node(name).join(self.node("node-0"))
        self.network.run_until(self.network.agrees_on_members, limit=30)

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.network.running()]

    def start(self, name: str, epoch: int | None = None) -> Catalog:
        epoch = epoch if epoch is not None else int(EPOCH_2023 + self.network.now)
        rng = Random(self.network.rng.getrandbits(64))

        def tell_epoch(new: int) -> None:
            self.node(name).protocol.table.set_meta(encode_tags(with_epoch({}, new)))

        catalog = Catalog(name, epoch, rng, self._config, on_epoch=tell_epoch)
        self.catalogs[name] = catalog
        self.network.add(name, delegate=catalog, meta=encode_tags(with_epoch({}, epoch)))
        return catalog

    def node(self, name: str) -> SimulatedNode:
        return self.network.nodes[name]

    def put(self, node: str, service: str, health: Health = Health.HEALTHY, **more: int) -> None:
        self.catalogs[node].publish_instance(
            Instance(f"{service}.{node}", service, node, "10.0.0.1", {"http": 80}, health, **more)
        )

    def views(self) -> dict[str, list[Instance]]:
        return {name: list(self.catalogs[name].instances()) for name in self.names}

    def agrees(self) -> bool:
        views = list(self.views().values())
        return all(view == views[0] for view in views)

    def converge(self, limit: float = 60) -> float:
        return self.network.run_until(self.agrees, limit)

    def health(self, seen_by: str, instance: str) -> Health | None:
        found = self.catalogs[seen_by].instance(instance)
        return found.health if found else None


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


def test_a_clock_that_was_set_back_does_not_silence_a_node() -> None:
    fleet = Fleet(3)
    fleet.put("node-1", "web")
    fleet.network.run_for(3)
    fleet.node("node-1").kill()
    fleet.network.run_for(1)
    again = fleet.start("node-1", epoch=EPOCH_2023 - 1_000_000)
    fleet.node("node-1").join(fleet.node("node-0"))
    fleet.network.run_for(3)
    fleet.put("node-1", "api")
    fleet.network.run_until(
        lambda: [i.id for i in fleet.catalogs["node-2"].instances()] == ["api.node-1"], limit=20
    )
    assert again.epoch > EPOCH_2023


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


def test_a_bad_value_stops_at_the_first_neighbour() -> None:
    fleet = Fleet(3)
    liar = fleet.catalogs["node-0"]
    before = {name: list(c.instances()) for name, c in fleet.catalogs.items()}
    for payload in (
        b"\xc1\xff",
        b"\xc1" + bytes(500),
        b"\x00",
        b"\xc1\x95\xa6node-1\x01\x00\x01\x90",
    ):
        liar._queue.put("liar", payload)  # what a broken version of ours might send
        fleet.network.run_for(2)
    assert fleet.agrees()
    assert {name: list(c.instances()) for name, c in fleet.catalogs.items()} == before
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


@settings(max_examples=10)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(
            st.sampled_from(["put", "withdraw", "kill", "restart", "split", "heal", "loss"]),
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
    said: dict[str, dict[str, int]] = {name: {} for name in fleet.names}
    for number, (what, who, service, seconds) in enumerate(steps):
        name = f"node-{who}"
        running = fleet.node(name).running
        match what:
            case "put" if running:
                fleet.put(name, service, restarts=number)
                said[name][f"{service}.{name}"] = number
            case "withdraw" if running:
                fleet.catalogs[name].withdraw_instance(f"{service}.{name}")
                said[name].pop(f"{service}.{name}", None)
            case "kill" if running and len(fleet.names) > 1:
                fleet.node(name).kill()
            case "restart":
                fleet.node(name).kill()
                fleet.network.run_for(1)
                fleet.start(name)
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
    fleet.network.conditions.heal()
    fleet.network.conditions.loss = 0
    expected = {name: number for owner in fleet.names for name, number in said[owner].items()}

    def right() -> bool:
        return all(
            {i.id: i.restarts for i in view if i.health is Health.HEALTHY} == expected
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
