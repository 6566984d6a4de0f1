"""Requests, answers, the ledger and leases piece by piece, on one simulated etcd."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus import ConsensusError, Unavailable, Unknown
from constellation_core.consensus.leases import LeaseTimes
from constellation_core.consensus.state.limits import ENTRY_COST, MAX_LEASES, MAX_RELEASED
from constellation_core.consensus.state.results import Granted, HeldByOther
from constellation_core.consensus.store import StoreFull
from constellation_core.testing.consensus.group import SimulatedHost
from constellation_core.testing.consensus.world import World
from constellation_core.testing.virtual_loop import run_virtual
from constellation_plugin_etcd import store
from constellation_plugin_etcd.answers import Refusal, failure
from constellation_plugin_etcd.client import EtcdClient
from constellation_plugin_etcd.leases import EtcdGrants
from constellation_plugin_etcd.messages import Span, delete, events_in, put
from constellation_plugin_etcd.store import EtcdStore
from constellation_plugin_etcd.testing.simulated import PREFIX, SimulatedEtcd, SimulatedGateway

Document = dict[str, Any]
TIMES = LeaseTimes(ttl=6.0)


class Site:
    """Simulated members that work, and what stands on them."""

    def __init__(self) -> None:
        self.world = World(1, TIMES)
        self.world.group.conditions.lag = (0.0, 0.01)
        self.etcd = SimulatedEtcd(self.world)
        self.host = SimulatedHost()
        self.client = EtcdClient(SimulatedGateway("c", self.host, self.etcd))
        self.store = EtcdStore(self.client, self.host, self.world.random, PREFIX)

    def grants(self, holder: str) -> EtcdGrants:
        return EtcdGrants(
            self.client,
            self.host,
            self.world.random,
            prefix=PREFIX,
            holder=holder,
            times=TIMES,
        )

    async def do(self, *operations: Document) -> None:
        await self.client.txn([], operations, timeout=5)


def run(scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        site = Site()
        async with site.etcd.running():
            await asyncio.sleep(6)
            await scenario(site)

    run_virtual(main())


# --- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"code": 14, "message": "etcdserver: no leader"}, Refusal),
        ({"code": 14, "message": "etcdserver: request timed out"}, Unknown),
        ({"code": 14, "message": "etcdserver: leader changed"}, Unknown),
        ({"code": 2, "message": "context deadline exceeded"}, Unknown),
        ({"code": 8, "message": "etcdserver: too many requests"}, Refusal),
        ({"code": 8, "message": "etcdserver: mvcc: database space exceeded"}, Refusal),
        ({"code": 7, "message": "etcdserver: permission denied"}, Refusal),
        ({"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}, Refusal),
        ({"error": {"code": 9, "message": "x", "details": []}}, Refusal),
        ({"error": "text", "message": "text", "code": 5}, Refusal),
        ({}, Unknown),
        ({"code": "5", "message": 7}, Unknown),
        ({"error": {"code": True, "message": "x"}}, Unknown),
    ],
)
def test_an_error_says_whether_something_may_be_done(
    answer: Document, kind: type[ConsensusError]
) -> None:
    assert type(failure(answer)) is kind


FIELDS = """header kvs count responses response_range succeeded kv events result TTL key revision
    raft_term mod_revision error compact_revision canceled fragment"""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class Says:
    """A gateway whose members answer what one likes."""

    def __init__(self, answer: Document) -> None:
        self._answer = answer

    async def call(
        self, path: str, body: Document, *, timeout: float, leader: bool = True
    ) -> Document:
        return self._answer

    async def stream(
        self, path: str, body: Document, *, silence: float
    ) -> AsyncGenerator[Document, None]:
        yield self._answer


@given(answer=st.dictionaries(st.text(max_size=3), JSON, max_size=2) | JSON)
def test_whatever_answers_gives_a_result_or_a_consensus_error(answer: Any) -> None:
    if not isinstance(answer, dict):
        answer = {"result": answer}
    client = EtcdClient(Says(answer))

    async def watch() -> None:
        async for _ in client.watch(Span(b"a"), 1, silence=1):
            pass

    async def all_of_it() -> None:
        for ask in (
            lambda: client.range(Span(b"a"), timeout=1),
            lambda: client.first_written(Span(b"a"), 1, timeout=1),
            lambda: client.txn([], [put(b"a", b"")], timeout=1),
            lambda: client.keep_alive(1, timeout=1),
            lambda: client.next_write(b"a", 1, timeout=1),
            watch,
        ):
            try:
                await ask()
            except ConsensusError:
                continue

    run_virtual(all_of_it())


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=3),
        min_size=1,
        max_size=6,
    )
)
def test_events_come_to_what_happened(happened: list[list[tuple[str, bool]]]) -> None:
    standing: dict[bytes, int | None] = {}
    elements = []
    for revision, changes in enumerate(happened, start=5):
        events = []
        for key, deleted in changes:
            kv = {"key": base64.b64encode(key.encode()).decode(), "mod_revision": str(revision)}
            events.append({"kv": kv} | ({"type": "DELETE"} if deleted else {}))
            standing[key.encode()] = None if deleted else revision
        # The header tells of more than what is in the element.
        elements.append({"events": events, "header": {"revision": "1000"}})
    told = events_in(elements)
    assert told.revision == 4 + len(happened)
    assert {each.key: each.modified for each in told.entries} == {
        key: revision for key, revision in standing.items() if revision is not None
    }
    assert set(told.gone) == {key for key, revision in standing.items() if revision is None}


def test_a_prefix_ends_where_the_next_one_begins() -> None:
    assert Span.below(b"/a/") == Span(b"/a/", b"/a0")
    assert Span.below("/ü".encode()).end == b"/\xc3\xbd"


# --- the store ------------------------------------------------------------------------------


def test_the_size_is_put_right_when_others_were_at_the_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "MAX_TOTAL", 10 * 1000)
    # With its key and what an entry costs besides, a tenth.
    value = bytes(1000 - ENTRY_COST - 1)

    async def scenario(site: Site) -> None:
        async def fill(names: str) -> int:
            written = 0
            try:
                for name in names:
                    await site.store.put(name, value)
                    written += 1
            except StoreFull:
                pass
            return written

        assert await fill("abcdefghijkl") == 10
        await site.do(*(delete(PREFIX + b"keys/" + name) for name in (b"a", b"b", b"c")))
        # Not each time, since it means to read everything.
        assert await fill("u") == 0
        await asyncio.sleep(61)
        assert await fill("uvwx") == 3
        # And when the ledger itself is gone, or says nonsense.
        for spoil in (delete(PREFIX + b"ledger"), put(PREFIX + b"ledger", b"{")):
            await site.do(spoil)
            await site.store.delete("u")
            await asyncio.sleep(61)
            assert await fill("uxyz") == 1

    run(scenario)


def test_what_was_compacted_meanwhile_is_unknown_not_wrong() -> None:
    """Whether a write was done is read from history, which may be gone."""

    async def scenario(site: Site) -> None:
        await site.store.put("a", b"1")
        loses = True

        class Deaf(SimulatedGateway):
            async def call(self, path: str, body: Document, **options: Any) -> Document:
                answer = await super().call(path, body, **options)
                if loses and body.get("compare"):
                    await other.put("b", b"2")
                    for member in site.etcd.members.values():
                        member.state.compact()
                    raise Unknown("the answer was lost")
                return answer

        other = site.store
        deaf = EtcdStore(
            EtcdClient(Deaf("d", site.host, site.etcd)), site.host, site.world.random, PREFIX
        )
        with pytest.raises(Unknown):
            await deaf.put("a", b"2", timeout=5)
        entry = await other.get("a")
        assert entry is not None
        assert entry.value == b"2"

    run(scenario)


def test_a_write_whose_answer_was_lost_is_found_in_history() -> None:
    async def scenario(site: Site) -> None:
        first = await site.store.put("a", b"1")
        lost = 0

        class Deaf(SimulatedGateway):
            async def call(self, path: str, body: Document, **options: Any) -> Document:
                nonlocal lost
                answer = await super().call(path, body, **options)
                if body.get("compare") and lost < 3:
                    lost += 1
                    # Others write all the while, the same key too.
                    await site.store.put("a" if lost % 2 else "b", b"other")
                    raise Unknown("the answer was lost")
                return answer

        deaf = EtcdStore(
            EtcdClient(Deaf("d", site.host, site.etcd)), site.host, site.world.random, PREFIX
        )
        second = await deaf.compare_and_set("a", b"2", first)
        entry = await site.store.get("a")
        assert entry is not None
        assert (entry.value, lost) == (b"other", 3)
        assert first < second < entry.revision

    run(scenario)


def test_a_watch_goes_on_after_what_it_missed_was_compacted() -> None:
    async def scenario(site: Site) -> None:
        view: dict[str, bytes] = {}

        async def watch() -> None:
            async for changes in site.store.watch(""):
                for key in changes.gone:
                    del view[key]
                view.update({entry.key: entry.value for entry in changes.entries})

        await site.store.put("a", b"1")
        watching = asyncio.create_task(watch())
        await asyncio.sleep(1)
        assert view == {"a": b"1"}
        site.world.network.conditions.cut = frozenset({"c"})
        other = site.etcd.store("other", site.host)
        await other.put("b", b"2")
        await other.delete("a")
        for member in site.etcd.members.values():
            member.state.compact()
        site.world.network.conditions.cut = frozenset()
        await asyncio.sleep(60)
        assert view == {"b": b"2"}
        watching.cancel()
        await asyncio.wait([watching])

    run(scenario)


def test_a_cluster_that_went_back_is_not_spoken_with() -> None:
    async def scenario(site: Site) -> None:
        await site.store.put("a", b"1")
        for member in site.etcd.members.values():
            member.state.__init__()  # type: ignore[misc]
        with pytest.raises(Unavailable, match="put back"):
            await site.store.get("a", timeout=3)
        with pytest.raises(Unavailable, match="put back"):
            await site.store.put("a", b"2", timeout=3)
        # Who was restarted knows nothing of it.
        await site.etcd.store("new", site.host).put("a", b"3")

    run(scenario)


# --- leases ---------------------------------------------------------------------------------


def test_a_renewal_counts_in_one_term_only() -> None:
    async def scenario(site: Site) -> None:
        one, two = site.grants("one/1"), site.grants("two/1")
        granted = await one.ask("dns", 5.5, timeout=5)
        assert isinstance(granted, Granted)
        assert not granted.clean
        renewal = await one.renew("dns", granted.epoch, 5.5, timeout=1)
        assert (renewal.lost, renewal.next_in) == ((), 5.5 / 3)
        held = await two.ask("dns", 5.5, timeout=5)
        assert isinstance(held, HeldByOther)
        assert (held.holder, held.epoch) == ("one/1", granted.epoch)
        await one.release("dns", granted.epoch, timeout=2)
        again = await two.ask("dns", 5.5, timeout=5)
        assert isinstance(again, Granted)
        assert again.clean
        assert again.epoch > granted.epoch
        # Somebody deletes it.
        await site.do(delete(PREFIX + b"leases/dns"))
        renewal = await two.renew("dns", again.epoch, 5.5, timeout=1)
        assert renewal.lost == (again.epoch,)

    run(scenario)


def test_notes_of_releases_are_bounded() -> None:
    async def scenario(site: Site) -> None:
        grants = site.grants("one/1")
        notes = [put(PREFIX + f"released/{n:04}".encode(), b"") for n in range(MAX_RELEASED + 3)]
        await site.do(*notes)
        for name in ("a", "b"):
            granted = await grants.ask(name, 5.5, timeout=5)
            assert isinstance(granted, Granted)
            await grants.release(name, granted.epoch, timeout=2)
        found = await site.client.range(Span.below(PREFIX + b"released/"), timeout=5)
        assert found.count == MAX_RELEASED
        assert {each.key for each in found.entries} >= {
            PREFIX + b"released/" + n for n in (b"a", b"b")
        }

    run(scenario)


def test_too_many_leases_are_refused_and_none_stays() -> None:
    async def scenario(site: Site) -> None:
        value = json.dumps({"holder": "x/1", "ttl": 5}).encode()
        await site.do(*(put(PREFIX + b"leases/%d" % n, value) for n in range(MAX_LEASES)))
        with pytest.raises(ValueError, match="refused"):
            await site.grants("one/1").ask("dns", 5.5, timeout=5)
        found = await site.client.range(Span.below(PREFIX + b"leases/"), timeout=5)
        assert found.count == MAX_LEASES

    run(scenario)


def test_a_lease_that_nobody_can_read_is_nobodys() -> None:
    async def scenario(site: Site) -> None:
        await site.do(put(PREFIX + b"leases/dns", b"nonsense"))
        held = await site.grants("one/1").ask("dns", 5.5, timeout=5)
        assert isinstance(held, HeldByOther)
        assert held.holder == ""

    run(scenario)
