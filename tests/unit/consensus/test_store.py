"""The store as its users see it, over simulated voters in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import Unavailable, Unknown
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import changes, sessions
from constellation_core.consensus.state.limits import MAX_VALUE
from constellation_core.consensus.state.queries import (
    Answer,
    Entry,
    Query,
    Space,
    decode_answer,
    decode_query,
    encode_answer,
    encode_query,
)
from constellation_core.consensus.store import CompareFailed, Store, StoreFull
from constellation_core.consensus.watching import Changes
from constellation_core.testing.consensus.world import SHORT_TIMES, World
from constellation_core.testing.virtual_loop import StuckError, run_virtual
from constellation_core.testing.waiting import until_so


class Stores:
    """Clients of voters that work."""

    def __init__(self) -> None:
        self.world = World(1, SHORT_TIMES)

    def client(self, name: str = "c") -> Store:
        host = self.world.host()
        access = self.world.network.client(name, host)
        return Store(access, Requests(access, host, self.world.random), host, self.world.random)


def run(scenario: Callable[[Stores], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        stores = Stores()
        async with stores.world.running():
            await asyncio.sleep(5)
            await scenario(stores)

    run_virtual(main())


def test_what_is_written_is_read_and_compared_with() -> None:
    async def scenario(stores: Stores) -> None:
        store, other = stores.client(), stores.client()
        assert await store.get("a") is None
        first = await store.put("a", b"1")
        assert await other.get("a") == Entry("a", b"1", first)
        second = await store.compare_and_set("a", b"2", first)
        assert second > first
        with pytest.raises(CompareFailed) as error:
            await other.compare_and_set("a", b"3", first)
        assert error.value.revision == second
        with pytest.raises(CompareFailed):
            await other.compare_and_set("a", b"3", 0)
        with pytest.raises(CompareFailed):
            await other.delete("a", expected=first)
        await other.delete("a", expected=second)
        assert await store.get("a") is None
        with pytest.raises(CompareFailed, match="no key"):
            await store.compare_and_set("a", b"3", second)
        assert await store.compare_and_set("a", b"4", 0) > second
        await store.delete("a")
        await store.delete("a")

    run(scenario)


def test_prefixes_are_listed_in_order() -> None:
    async def scenario(stores: Stores) -> None:
        store = stores.client()
        for key in ("b/2", "b/10", "a", "b", "c", "b/é"):
            await store.put(key, key.encode())
        assert [entry.key for entry in await store.list("b/")] == ["b/10", "b/2", "b/é"]
        assert len(await store.list("")) == 6
        assert await store.list("d") == ()

    run(scenario)


def test_limits_are_errors() -> None:
    async def scenario(stores: Stores) -> None:
        store = stores.client()
        for key, value in (("", b""), ("k" * 257, b""), ("k", b"v" * (MAX_VALUE + 1))):
            with pytest.raises(ValueError, match="bytes"):
                await store.put(key, value)
        with pytest.raises(ValueError, match="bytes"):
            await store.delete("")
        await store.put("k" * 256, b"v" * MAX_VALUE)
        for number in range(254):
            await store.put(f"{number}", b"v" * MAX_VALUE)
        with pytest.raises(StoreFull):
            await store.put("one more", b"v" * MAX_VALUE)

    run(scenario)


def test_many_writes_at_once_are_all_done_once() -> None:
    async def scenario(stores: Stores) -> None:
        store = stores.client()
        stores.world.network.conditions.loss = 0.1
        stores.world.network.conditions.duplication = 0.3
        revisions = await asyncio.gather(
            *(store.put(f"{number:03}", b"", timeout=60) for number in range(400))
        )
        assert len(set(revisions)) == 400
        entries = await store.list("")
        assert sorted(entry.revision for entry in entries) == sorted(revisions)

    run(scenario)


def test_without_a_leader_nothing_is_done_and_stale_reads_still_work() -> None:
    async def scenario(stores: Stores) -> None:
        store = stores.client()
        await store.put("a", b"1")
        await asyncio.sleep(1)
        stores.world.group.elect(None)
        await asyncio.sleep(10)
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await store.put("a", b"2", timeout=5)
        assert asyncio.get_running_loop().time() - before < 6
        with pytest.raises(Unavailable):
            await store.get("a", timeout=5)
        entry = await store.get("a", stale=True)
        assert entry is not None
        assert entry.value == b"1"
        stores.world.group.elect("v2")
        assert await store.put("a", b"3") == entry.revision + 1

    run(scenario)


def test_a_write_whose_answer_is_lost_may_be_done() -> None:
    async def scenario(stores: Stores) -> None:
        store, other = stores.client("c"), stores.client("other")
        await store.put("a", b"1")
        conditions = stores.world.network.conditions
        conditions.latency = (0.5, 0.5)
        writing = asyncio.create_task(store.put("a", b"2", timeout=4))
        await asyncio.sleep(0.7)
        conditions.cut = frozenset({"c"})
        with pytest.raises(Unknown):
            await writing
        entry = await other.get("a")
        assert entry is not None
        assert entry.value == b"2"

    run(scenario)


def test_a_client_that_was_forgotten_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)

    async def scenario(stores: Stores) -> None:
        clients = [stores.client(f"c{number}") for number in range(4)]
        for number in range(5):
            for client in clients:
                await client.put("a", str(number).encode())
        entry = await clients[0].get("a")
        assert entry is not None
        assert entry.revision == 20

    run(scenario)


def test_what_was_forgotten_while_in_doubt_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)

    async def scenario(stores: Stores) -> None:
        store = stores.client("c")
        first = await store.put("a", b"1")
        conditions = stores.world.network.conditions
        conditions.latency = (0.3, 0.3)
        writing = asyncio.create_task(store.put("a", b"2", timeout=30))
        await asyncio.sleep(0.4)
        conditions.cut = frozenset({"c"})
        for number in range(2):
            await stores.client(f"other-{number}").put("b", b"")
        conditions.cut = frozenset()
        with pytest.raises(Unknown, match="forgot"):
            await writing
        entry = await store.get("a")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"2", first + 1)

    run(scenario)


class Scripted:
    """Answers as voters gave them, and the revisions after which was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[int | None] = []
        self._answers = iter(answers)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        self.asked.append(query.after)
        for answer in self._answers:
            return answer
        await asyncio.sleep(1e9)
        raise AssertionError

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        raise AssertionError

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        raise AssertionError


def test_a_voter_that_is_behind_does_not_turn_a_watch_back() -> None:
    async def scenario(stores: Stores) -> None:
        there = Answer(5, True, (Entry("a", b"1", 5),))
        access = Scripted(there, Answer(7, False, (), ("a",)), Answer(4, True, ()), there)
        random, host = stores.world.random, stores.world.host()
        store = Store(access, Requests(access, host, random), host, random)
        watched = Watched(store, "")
        await asyncio.sleep(60)
        assert [change.revision for change in watched.told] == [5, 7]
        assert watched.view == {}
        assert access.asked == [None, 5, 7, 7, 7]
        await watched.end()

    run(scenario)


class Watched:
    """What a watcher was told, and what that makes."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.told: list[Changes] = []
        self.view: dict[str, bytes] = {}
        self._task = asyncio.create_task(self._watch(store, prefix))

    async def _watch(self, store: Store, prefix: str) -> None:
        async for change in store.watch(prefix):
            self.told.append(change)
            for key in change.gone:
                del self.view[key]
            self.view.update({entry.key: entry.value for entry in change.entries})

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def test_a_watch_tells_how_things_stand_and_then_what_changes() -> None:
    async def scenario(stores: Stores) -> None:
        store = stores.client()
        empty, watched = Watched(store, "z"), Watched(store, "a")
        await asyncio.sleep(1)
        await store.put("a/1", b"1")
        await until_so(lambda: watched.view == {"a/1": b"1"}, 60, "the first key")
        await store.put("b", b"not asked for")
        await store.delete("a/1")
        await store.put("a/2", b"2")
        await until_so(lambda: watched.view == {"a/2": b"2"}, 60, "the second key")
        await asyncio.sleep(100)
        revisions = [change.revision for change in watched.told]
        assert revisions == sorted(set(revisions))
        assert [(change.entries, change.gone) for change in empty.told] == [((), ())]
        await watched.end()
        await empty.end()

    run(scenario)


def test_who_was_away_for_too_long_gets_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes.ChangeLog.__init__, "__defaults__", (0, 5))

    async def scenario(stores: Stores) -> None:
        store, other = stores.client("c"), stores.client("other")
        for key in ("a", "b", "c"):
            await other.put(key, b"1")
        watched = Watched(store, "")
        await until_so(lambda: len(watched.view) == 3, 60, "all keys")
        told = len(watched.told)
        stores.world.network.conditions.cut = frozenset({"c"})
        await other.delete("a")
        await other.put("b", b"2")
        for number in range(20):
            await other.put("d", str(number).encode())
        stores.world.network.conditions.cut = frozenset()
        await until_so(lambda: len(watched.told) > told, 60, "the difference")
        change = watched.told[-1]
        # What it knows already it is not told again.
        assert [entry.key for entry in change.entries] == ["b", "d"]
        assert change.gone == ("a",)
        await watched.end()

    run(scenario)


@pytest.mark.parametrize(
    "query", [Query(Space.KEYS, "a", False), Query(Space.LEASES, "é", True, after=7)]
)
def test_queries_survive_their_bytes(query: Query) -> None:
    assert decode_query(encode_query(query)) == query


@pytest.mark.parametrize(
    "answer",
    [Answer(1, True, ()), Answer(5, False, (Entry("k", b"\xff", 3),), ("gone", "é"))],
)
def test_answers_survive_their_bytes(answer: Answer) -> None:
    assert decode_answer(encode_answer(answer)) == answer


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", b"\x95\x02\x01\xa1a\xc2\xc0", b"\x95\x01\x09\xa1a\xc2\xc0"]
)
def test_other_bytes_are_neither(data: bytes) -> None:
    for decode in (decode_query, decode_answer):
        with pytest.raises(ValueError, match="not"):
            decode(data)


def test_a_virtual_loop_in_which_nothing_can_happen_says_so() -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run_virtual(wait_for_ever())
