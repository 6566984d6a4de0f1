"""Keys and values, as long as nothing is broken."""

from __future__ import annotations

import asyncio
import json

from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.state.limits import ENTRY_COST, MAX_KEY, MAX_TOTAL, MAX_VALUE
from constellation_core.consensus.store import CompareFailed, StoreFull
from constellation_core.consensus.watching import Changes
from constellation_core.testing.consensus.conformance.fleet import (
    PATIENCE,
    Fleet,
    Scenario,
    background,
    fails,
)
from constellation_core.testing.waiting import until_so


async def what_one_writes_all_read(fleet: Fleet) -> None:
    """Values are the same everywhere, byte by byte, with the revision that the writer was told."""
    one, two = await fleet.join("one"), await fleet.join("two")
    assert await one.store.get("a", timeout=PATIENCE) is None
    values = {"a": b"", "b": bytes(range(256)), "dns/zö": "grün".encode(), "dns/\U0001f30d": b"{}"}
    revisions = {key: await one.store.put(key, value) for key, value in values.items()}
    assert list(revisions.values()) == sorted(set(revisions.values()))
    assert min(revisions.values()) > 0
    for key, value in values.items():
        entry = await two.store.get(key)
        assert entry is not None
        assert (entry.key, entry.value, entry.revision) == (key, value, revisions[key])
    later = await two.store.put("a", b"new")
    assert later > max(revisions.values())
    entry = await one.store.get("a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"new", later)


async def a_list_has_what_begins_so_in_order(fleet: Fleet) -> None:
    """Prefixes are compared byte by byte, and the order is that of the keys' bytes."""
    one = await fleet.join("one")
    keys = ["a", "a/", "a/b", "a/ü", "a/\U0001f30d", "a0", "b", "\U0001f30d"]
    for key in reversed(keys):
        await one.store.put(key, key.encode(), timeout=PATIENCE)
    expected = {"": keys, "a/": keys[1:5], "a": keys[:6], "\U0001f30d": keys[-1:], "c": []}
    for prefix, found in expected.items():
        entries = await one.store.list(prefix)
        assert [entry.key for entry in entries] == found, prefix
        assert all(entry.value == entry.key.encode() for entry in entries)


async def what_is_deleted_is_gone(fleet: Fleet) -> None:
    """Also twice, and under the condition that it is as it was."""
    one, two = await fleet.join("one"), await fleet.join("two")
    first = await one.store.put("a", b"1", timeout=PATIENCE)
    await two.store.put("b", b"1")
    error = await fails(one.store.delete("a", expected=first + 1000), CompareFailed)
    assert error.revision == first
    await two.store.delete("a", expected=first)
    assert await one.store.get("a") is None
    await one.store.delete("a")
    await one.store.delete("a", expected=0)
    assert [entry.key for entry in await one.store.list("")] == ["b"]
    error = await fails(one.store.delete("a", expected=first), CompareFailed)
    assert error.revision == 0


async def compare_and_set_compares(fleet: Fleet) -> None:
    """Of two that expect the same, one is done; a key that comes again is another one."""
    one, two = await fleet.join("one"), await fleet.join("two")
    first = await one.store.compare_and_set("a", b"1", 0, timeout=PATIENCE)
    error = await fails(two.store.compare_and_set("a", b"2", 0), CompareFailed)
    assert error.revision == first
    second = await two.store.compare_and_set("a", b"2", first)
    assert second > first
    error = await fails(one.store.compare_and_set("a", b"3", first), CompareFailed)
    assert error.revision == second
    await one.store.delete("a")
    error = await fails(one.store.compare_and_set("a", b"3", second), CompareFailed)
    assert error.revision == 0
    third = await one.store.compare_and_set("a", b"3", 0)
    assert third > second
    entry = await two.store.get("a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"3", third)


async def nobody_counts_past_another(fleet: Fleet) -> None:
    """Read, add one, compare and set: done by three at once, no addition is lost."""
    stores = [(await fleet.join(node)).store for node in ("one", "two", "three")]
    await stores[0].put("n", b"0", timeout=PATIENCE)

    async def add(backend: int) -> None:
        done = 0
        while done < 8:
            entry = await stores[backend].get("n")
            assert entry is not None
            value = str(int(entry.value) + 1).encode()
            try:
                await stores[backend].compare_and_set("n", value, entry.revision)
                done += 1
            except CompareFailed:
                continue

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        for number in (0, 0, 1, 2):
            tasks.create_task(add(number))
    entry = await stores[0].get("n")
    assert entry is not None
    assert entry.value == b"32"


async def many_write_at_once(fleet: Fleet) -> None:
    """One agent's tasks do not keep each other from writing."""
    one, two = await fleet.join("one"), await fleet.join("two")
    await one.store.put("warm", b"", timeout=PATIENCE)
    async with asyncio.TaskGroup() as tasks:
        for number in range(40):
            store = (one if number % 2 else two).store
            tasks.create_task(store.put(f"many/{number}", b"x", timeout=PATIENCE))
    assert len(await one.store.list("many/")) == 40


async def a_watch_tells_how_things_stand_then_what_changes(fleet: Fleet) -> None:
    """First even nothing, then each change below the prefix, with revisions that grow."""
    one, two = await fleet.join("one"), await fleet.join("two")
    await one.store.put("before", b"1", timeout=PATIENCE)
    empty, full = Follower("w/"), Follower("")
    async with background(empty.run(two), full.run(one)):
        await until_so(lambda: empty.told and full.told, PATIENCE, "both first values")
        assert not empty.told[0].entries
        assert not empty.told[0].gone
        revision = await one.store.put("w/a", b"1")
        await one.store.put("x", b"1")
        await two.store.put("w/b", b"1")
        await until_so(lambda: len(empty.view) == 2, PATIENCE, "two entries")
        assert empty.revisions["w/a"] == revision
        await two.store.put("w/a", b"2")
        await one.store.delete("w/b")
        expected = {"before": b"1", "w/a": b"2", "x": b"1"}
        await until_so(lambda: full.view == expected, PATIENCE, "all changes")
        await until_so(lambda: empty.view == {"w/a": b"2"}, PATIENCE, "all changes")
        await two.store.delete("w/a")
        await until_so(lambda: not empty.view, PATIENCE, "the end")
    for told in (empty.told, full.told):
        revisions = [changes.revision for changes in told]
        assert revisions == sorted(set(revisions))
        assert all(changes.entries or changes.gone for changes in told[1:])


async def what_is_too_large_is_refused(fleet: Fleet) -> None:
    """Of keys and values, to the byte, before anything is written."""
    store = (await fleet.join("one")).store
    await store.put("ü" * (MAX_KEY // 2), b"", timeout=PATIENCE)
    await store.put("k", bytes(MAX_VALUE))
    await fails(store.put("", b""), ValueError)
    await fails(store.put("ü" * (MAX_KEY // 2) + "x", b""), ValueError)
    await fails(store.put("k", bytes(MAX_VALUE + 1)), ValueError)
    await fails(store.compare_and_set("k", bytes(MAX_VALUE + 1), 0), ValueError)
    await fails(store.delete(""), ValueError)
    entries = await store.list("")
    assert sorted(len(entry.value) for entry in entries) == [0, MAX_VALUE]


async def a_full_store_takes_no_more(fleet: Fleet) -> None:
    """To the byte; and it takes what makes it smaller, and something new when there is room."""
    one, two = await fleet.join("one"), await fleet.join("two")
    await one.store.put("warm", b"", timeout=PATIENCE)
    await one.store.delete("warm")
    cost = len("big/000") + MAX_VALUE + ENTRY_COST
    count, rest = divmod(MAX_TOTAL, cost)
    for number in range(count):
        await one.store.put(f"big/{number:03}", bytes(MAX_VALUE), timeout=PATIENCE)
    fitting = bytes(rest - len("rest") - ENTRY_COST)
    await fails(two.store.put("rest", fitting + b"x", timeout=PATIENCE), StoreFull)
    await two.store.put("rest", fitting, timeout=PATIENCE)
    await fails(one.store.put("x", b"", timeout=PATIENCE), StoreFull)
    await fails(one.store.put("rest", fitting + b"x", timeout=PATIENCE), StoreFull)
    await fails(one.store.compare_and_set("rest", fitting + b"x", 1), CompareFailed)
    await one.store.put("rest", bytes(len(fitting)), timeout=PATIENCE)
    assert len(await two.store.list("big/", timeout=PATIENCE)) == count
    await one.store.delete("big/000", timeout=PATIENCE)
    await two.store.put("x", bytes(1000), timeout=PATIENCE)


async def a_backend_describes_itself(fleet: Fleet) -> None:
    """As the protocol says, and in what JSON can hold."""
    one = await fleet.join("one")
    await one.store.put("a", b"1", timeout=PATIENCE)
    await until_so(lambda: one.describe()["available"], PATIENCE, "being available")
    described = one.describe()
    assert described["backend"] == one.name
    assert described["leader"] is None or isinstance(described["leader"], str)
    assert all(isinstance(problem, str) for problem in described["problems"])
    json.dumps(described)


class Follower:
    """Follows a prefix, and notes what it is told.

    Attributes:
        told: all of it.
        view: what it comes to.
        revisions: those of what is there.
    """

    def __init__(self, prefix: str) -> None:
        self.told: list[Changes] = []
        self.view: dict[str, bytes] = {}
        self.revisions: dict[str, int] = {}
        self._prefix = prefix

    async def run(self, backend: ConsensusBackend) -> None:
        """Until cancelled."""
        async for changes in backend.store.watch(self._prefix):
            self.told.append(changes)
            for key in changes.gone:
                # What was not told is not taken back.
                del self.view[key], self.revisions[key]
            self.view |= {entry.key: entry.value for entry in changes.entries}
            self.revisions |= {entry.key: entry.revision for entry in changes.entries}


STORE_SCENARIOS: tuple[Scenario, ...] = (
    what_one_writes_all_read,
    a_list_has_what_begins_so_in_order,
    what_is_deleted_is_gone,
    compare_and_set_compares,
    nobody_counts_past_another,
    many_write_at_once,
    a_watch_tells_how_things_stand_then_what_changes,
    what_is_too_large_is_refused,
    a_full_store_takes_no_more,
    a_backend_describes_itself,
)
