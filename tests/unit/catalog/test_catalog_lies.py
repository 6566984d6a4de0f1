"""A node that lies about others: what it can do, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.catalog import CatalogConfig
from constellation_core.catalog.messages import Heard, Updates, decode, encode
from constellation_core.catalog.outbox import Outbox
from constellation_core.catalog.own import OwnRows
from constellation_core.catalog.owners import Known, OwnerState, Update
from constellation_core.catalog.rows import Row, Value, instance_row
from constellation_core.catalog.stats import CatalogStats
from constellation_core.gossip.member import encode_tags
from constellation_core.gossip.messages import Alive
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.testing.catalog_fleet import Fleet
from constellation_core.testing.network import EPOCH_2023

# --- what an owner makes of what it hears of itself ------------------------------------------


class Owner:
    """An owner, all states that it has had, and a copy that gets whatever is sent."""

    def __init__(self) -> None:
        self.state = OwnerState("a", 1, 1)
        shown: list[tuple[str, Value | None]] = []
        self.outbox = Outbox(0.0, 0.0, lambda key, value: shown.append((key, value)))
        self.epochs: list[int] = []
        self.own = OwnRows(self.state, self.outbox, 1_200, CatalogStats(), self.epochs.append)
        self.copies: list[OwnerState] = []
        self.now = 0.0
        self.tell()

    def tell(self) -> list[Update]:
        self.now += 10
        parts = [decode(part.payload) for part in self.own.parts(self.now, None)]
        self.copies.append(replace(self.state, rows=dict(self.state.rows)))
        return [part for part in parts if isinstance(part, Update)]

    def change(self, name: str, restarts: int | None) -> list[Update]:
        if restarts is None:
            self.outbox.withdraw(f"i/{name}.a", self.now)
        else:
            self.outbox.put(_row(name, restarts), self.now)
        return self.tell()

    def bury(self) -> None:
        self.state.bury([key for key, row in self.state.rows.items() if row.value is None])


def _row(name: str, restarts: int, version: int = 0) -> Row:
    instance = Instance(f"{name}.a", name, "a", "::1", {}, Health.HEALTHY, restarts=restarts)
    return instance_row(instance, version)


def living(state: OwnerState) -> dict[str, bytes]:
    return {key: row.data for key, row in state.rows.items() if row.value is not None}


NAMES = st.sampled_from(["web", "api", "job"])
CHANGES = st.lists(st.tuples(NAMES, st.none() | st.integers(0, 3)), max_size=10)
ROWS = st.lists(
    st.builds(
        lambda name, restarts, version: (
            Row(f"i/{name}.a", version, b"", None)
            if restarts is None
            else _row(name, restarts, version)
        ),
        NAMES,
        st.none() | st.integers(0, 3),
        st.integers(0, 14),
    ),
    max_size=4,
)
FORGED = st.builds(
    lambda base, more, rows: Update(
        "a",
        1,
        base,
        base + more,
        tuple(row for row in rows if row.version <= base + more),
    ),
    st.integers(0, 12),
    st.integers(0, 4),
    ROWS,
)


@given(CHANGES, CHANGES, FORGED | st.none(), st.data())
def test_whoever_believes_a_lie_has_the_truth_once_the_owner_has_heard_it(
    before: list[tuple[str, int | None]],
    after: list[tuple[str, int | None]],
    forged: Update | None,
    data: st.DataObject,
) -> None:
    owner = Owner()
    told: list[Update] = []
    for name, restarts in before:
        told += owner.change(name, restarts)
        if data.draw(st.booleans()):
            owner.bury()
    if forged is None:
        # A true word of which something is left out or changed.
        true = data.draw(st.sampled_from([*told, owner.state.since(0)]))
        kept = [row for row in true.rows if data.draw(st.booleans())]
        forged = replace(true, rows=tuple(kept))
    victim = data.draw(st.sampled_from(owner.copies))
    victim.apply(forged)
    owner.own.hear_update(forged)
    later = owner.tell()
    for name, restarts in after:
        later += owner.change(name, restarts)
    if data.draw(st.booleans()):
        for update in later:
            victim.apply(update)
    if victim.version < owner.state.version:
        victim.apply(owner.state.since(victim.version))
    assert living(victim) == living(owner.state)
    assert victim.known == owner.state.known
    assert owner.epochs == []


@given(CHANGES, st.data())
def test_an_owner_does_not_take_its_own_words_for_lies(
    changes: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    owner = Owner()
    told: list[Update] = []
    for name, restarts in changes:
        told += owner.change(name, restarts)
        if data.draw(st.booleans()):
            owner.bury()
        told.append(owner.state.since(data.draw(st.integers(0, owner.state.version))))
        # What others may hand on: their own copy of it.
        copy = data.draw(st.sampled_from(owner.copies))
        told.append(copy.since(data.draw(st.integers(0, copy.version))))
    for update in told:
        owner.own.hear_update(update)
        owner.own.hear(Known(update.epoch, update.version))
    for copy in owner.copies:
        owner.own.hear(copy.known)
    version = owner.state.version
    owner.tell()
    assert owner.state.version == version


# --- among nodes -----------------------------------------------------------------------------


def lied_to(size: int = 10) -> Fleet:
    """A fleet in which node-0 will lie about node-1."""
    fleet = Fleet(size)
    fleet.put("node-1", "web")
    fleet.put("node-1", "api", Health.UNHEALTHY)
    fleet.converge()
    fleet.network.run_for(10)
    return fleet


def truth(fleet: Fleet) -> bool:
    return all(
        {each.id: each.health for each in view}
        == {"web.node-1": Health.HEALTHY, "api.node-1": Health.UNHEALTHY}
        for name, view in fleet.views().items()
        if name != "node-0"
    )


def lie(fleet: Fleet, version: int = 0, epoch: int = 0, service: str = "api") -> Update:
    """A false update of node-1: the failing service is well."""
    state = fleet.catalogs["node-1"]._own.state
    instance = Instance(f"{service}.node-1", service, "node-1", "6.6.6.6", {}, Health.HEALTHY)
    version = version or state.version + 1
    row = instance_row(instance, version)
    return Update("node-1", epoch or state.epoch, 0, version, (row,))


@pytest.mark.parametrize("above", [1, 2, 1_000, 2**59, 2**62])
def test_a_lie_that_is_broadcast_lives_for_two_seconds(above: int) -> None:
    fleet = lied_to()
    version = fleet.catalogs["node-1"]._own.state.version + above
    fleet.tell("node-0", "node-2", lie(fleet, version))
    fleet.network.run_for(0.01)
    assert not truth(fleet)
    assert fleet.network.run_until(lambda: truth(fleet), limit=20) <= 2.5
    fleet.network.run_for(30)
    assert truth(fleet)
    assert fleet.catalogs["node-1"].stats.outdone == 1


def test_an_announcement_of_what_there_is_not_is_outdone() -> None:
    fleet = lied_to()
    epoch = fleet.catalogs["node-1"].epoch
    fleet.tell("node-0", "node-2", Update("node-1", epoch, 50, 50, ()))
    fleet.network.run_for(30)
    assert truth(fleet)
    pulls = fleet.catalogs["node-2"].stats.pulls
    fleet.network.run_for(120)
    assert truth(fleet)
    assert fleet.catalogs["node-2"].stats.pulls <= pulls + 1


@pytest.mark.parametrize("ahead", [-5, 1, 299, 2**30])
def test_another_life_of_somebody_else_is_believed_from_nobody(ahead: int) -> None:
    fleet = lied_to()
    epoch = fleet.catalogs["node-1"].epoch
    for name in fleet.names[1:]:
        fleet.tell("node-0", name, lie(fleet, epoch=epoch + ahead))
    for _ in range(50):
        fleet.network.run_for(0.1)
        assert truth(fleet)
    assert fleet.catalogs["node-1"].epoch == epoch
    assert fleet.catalogs["node-1"].stats.outdone == 0


def test_a_claim_in_the_metadata_of_another_lives_until_the_other_objects() -> None:
    fleet = lied_to()
    victim = fleet.node("node-1")
    local, epoch = victim.protocol.table.local, fleet.catalogs["node-1"].epoch
    meta = encode_tags({"epoch": f"{EPOCH_2023 + 2**30:x}"})
    claim = replace(local.alive(), incarnation=local.incarnation + 1, meta=meta)
    assert isinstance(claim, Alive)
    liar = fleet.node("node-0")
    for name in fleet.names[1:]:
        liar.protocol.send(fleet.node(name).address, claim)
    liar.flush()
    fleet.network.run_for(0.1)
    assert not truth(fleet)
    assert fleet.network.run_until(lambda: truth(fleet), limit=20) <= 2.5
    assert fleet.catalogs["node-1"].epoch == epoch


def falsify(fleet: Fleet, ahead: int) -> None:
    """Let node-0 hold false rows of node-1, and hand these out when it is asked."""
    liar = fleet.catalogs["node-0"]._replica
    state = liar.state("node-1")
    false = lie(fleet, state.version + ahead)
    state.apply(replace(false, base=0), instead=True)
    liar._changed.add("node-1")


@pytest.mark.parametrize("ahead", [0, 1, 1_000])
def test_a_lie_in_an_answer_is_found_out_by_comparing(ahead: int) -> None:
    fleet = lied_to(6)
    falsify(fleet, ahead)
    lived = 0.0
    for _ in range(600):
        fleet.network.run_for(0.1)
        lived += 0.1 * (not truth(fleet))
    assert truth(fleet)
    assert lived <= 2.5
    # The liar itself has been given the truth too.
    assert fleet.agrees()


def test_a_newcomer_that_asked_a_liar_learns_the_truth() -> None:
    fleet = lied_to(6)
    for name in ("node-2", "node-3", "node-4", "node-5"):
        # So that the liar has much to hand out, and the lie is one among many.
        for number in range(5):
            fleet.put(name, f"s{number}")
    fleet.converge()
    falsify(fleet, 0)
    newcomer = fleet.start("late")
    fleet.node("late").join(fleet.node("node-0"))
    fleet.network.run_until(lambda: len(newcomer.instances()) > 0, limit=10)
    fleet.network.run_until(lambda: fleet.agrees() and newcomer.warm, limit=20)
    api = newcomer.instance("api.node-1")
    assert api is not None
    assert api.health is Health.UNHEALTHY


def test_a_lie_about_who_is_dead_does_not_bring_it_to_life() -> None:
    fleet = lied_to()
    fleet.node("node-1").kill()
    fleet.network.run_until(
        lambda: all(fleet.health(n, "web.node-1") is Health.UNREACHABLE for n in fleet.names), 20
    )
    for name in fleet.names[1:]:
        fleet.tell("node-0", name, lie(fleet))
    fleet.network.run_for(5)
    assert not any(each.health.serves for view in fleet.views().values() for each in view)


def test_who_is_lied_about_all_the_time_does_not_flood_everybody() -> None:
    fleet = lied_to()
    owner = fleet.catalogs["node-1"]
    epoch, false = owner.epoch, 0
    before = {name: fleet.catalogs[name].stats.broadcast_bytes for name in fleet.names}
    for _ in range(120):
        version = owner._own.state.version + 3
        fleet.tell("node-0", "node-2", lie(fleet, version))
        fleet.tell("node-0", "node-1", Heard("node-1", Known(epoch, version + 7, 9)))
        fleet.network.run_for(0.5)
        false += not truth(fleet)
    assert owner.epoch == epoch
    assert owner.stats.outdone <= 60 / 5 + 1
    for name in fleet.names:
        assert fleet.catalogs[name].stats.broadcast_bytes - before[name] < 60 * 3_000
    assert fleet.network.run_until(lambda: truth(fleet), limit=30) <= 10


def test_nobody_believes_in_owners_that_are_no_members() -> None:
    fleet = Fleet(3)
    catalog = fleet.catalogs["node-1"]
    for number in range(2_000):
        row = instance_row(Instance("web.x", "web", "x", "::1", {}), 1)
        row = Row(f"i/web.ghost-{number}", 1, row.data, row.value)
        fleet.tell("node-0", "node-1", Update(f"ghost-{number}", EPOCH_2023, 0, 1, (row,)))
        if number % 50 == 0:
            fleet.network.run_for(0.01)
    fleet.network.run_for(1)
    assert catalog.instances() == []
    assert len(catalog._early) <= 256
    assert set(catalog.versions()) == {"node-0", "node-1", "node-2"}


def test_answers_about_what_was_not_asked_are_not_taken() -> None:
    fleet = Fleet(3, config=CatalogConfig(sync_interval=5))
    fleet.put("node-1", "web")
    fleet.converge()
    answer = fleet.catalogs["node-0"].on_request
    false = lie(fleet, version=900, service="web")

    def on_request(payload: bytes) -> bytes | None:
        reply = answer(payload)
        message = decode(reply) if reply else None
        if isinstance(message, Updates):
            return encode(Updates((*message.updates, false)))
        return reply

    fleet.catalogs["node-0"].on_request = on_request  # type: ignore[method-assign]
    for number in range(20):
        fleet.put("node-0", f"s{number}")
        fleet.network.run_for(3)
        for name in ("node-1", "node-2"):
            found = fleet.catalogs[name].instance("web.node-1")
            assert found is not None
            assert found.address == "10.0.0.1"
