"""The store and leases that plugins are tested with are real, and time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from constellation_core import (
    CompareFailed,
    ConsensusBackend,
    LeaseLost,
    LeaseView,
    PluginContext,
    Unavailable,
)
from constellation_core.testing.consensus.memory import MemoryConsensus
from constellation_core.testing.context import FakeContext


async def hold(context: FakeContext, inside: asyncio.Event, on_lost: Callable[[], None]) -> None:
    async with context.lease("dns-writer", on_lost=on_lost):
        inside.set()
        await asyncio.Event().wait()


def test_it_fits_the_interfaces() -> None:
    # mypy does the work here.
    backend: ConsensusBackend = MemoryConsensus().agent()
    context: PluginContext = FakeContext()
    assert backend.describe()["available"]
    assert context.node.name == "node-a"


async def test_contexts_that_share_a_consensus_have_one_store() -> None:
    consensus = MemoryConsensus()
    here = FakeContext(consensus=consensus)
    there = FakeContext(node="node-b", consensus=consensus)
    revision = await here.store.put("hello/word", b"one")
    found = await there.store.get("hello/word")
    assert found is not None
    assert (found.value, found.revision) == (b"one", revision)
    await there.store.compare_and_set("hello/word", b"two", revision)
    with pytest.raises(CompareFailed):
        await here.store.compare_and_set("hello/word", b"three", revision)


async def test_one_lease_has_one_holder_and_passes_on_when_it_is_let_go() -> None:
    consensus = MemoryConsensus()
    here = FakeContext(consensus=consensus)
    there = FakeContext(node="node-b", consensus=consensus)
    order: list[tuple[str, int]] = []

    async def second() -> None:
        async with there.lease("dns-writer") as lease:
            order.append((there.node.name, lease.epoch))

    async with asyncio.TaskGroup() as group:
        async with here.lease("dns-writer") as lease:
            order.append((here.node.name, lease.epoch))
            group.create_task(second())
            # Renewed all the while, however far the clock is turned.
            await consensus.clock.advance(500)
            assert len(order) == 1
            assert lease.remaining > 0
        await consensus.clock.advance(1)
    assert [name for name, _ in order] == ["node-a", "node-b"]
    assert order[0][1] < order[1][1]


async def test_a_lease_that_the_voters_ended_is_lost_at_the_next_renewal() -> None:
    consensus = MemoryConsensus()
    context = FakeContext(consensus=consensus)
    lost: list[bool] = []
    inside = asyncio.Event()
    holding = asyncio.create_task(hold(context, inside, lambda: lost.append(True)))
    await inside.wait()
    consensus.expire("dns-writer")
    await consensus.clock.advance(20)
    with pytest.raises(LeaseLost):
        await holding
    assert lost == [True]
    with pytest.raises(LookupError):
        consensus.expire("dns-writer")


async def test_without_consensus_a_lease_lasts_no_longer_than_its_time() -> None:
    consensus = MemoryConsensus()
    context = FakeContext(consensus=consensus)
    inside, lost = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(hold(context, inside, lost.set))
    await inside.wait()
    consensus.available = False
    # 45 seconds, of which a tenth is not trusted.
    await consensus.clock.advance(40.4)
    assert not lost.is_set()
    await consensus.clock.advance(0.2)
    assert lost.is_set()
    # It is tried for a while to release it.
    await consensus.clock.advance(5)
    with pytest.raises(LeaseLost, match="not renewed in time"):
        await holding


async def test_what_cannot_be_reached_is_said_to_be_unavailable() -> None:
    consensus = MemoryConsensus()
    context = FakeContext(consensus=consensus)
    consensus.available = False
    asking = asyncio.create_task(context.store.get("a", timeout=5))
    await consensus.clock.advance(10)
    with pytest.raises(Unavailable):
        await asking


async def test_holders_are_followed() -> None:
    consensus = MemoryConsensus()
    here = FakeContext(consensus=consensus)
    there = FakeContext(node="node-b", consensus=consensus)
    seen: asyncio.Queue[LeaseView | None] = asyncio.Queue()

    async def follow() -> None:
        async for view in there.leases.watch("dns-writer"):
            seen.put_nowait(view)

    following = asyncio.create_task(follow())
    assert await seen.get() is None
    async with here.lease("dns-writer"):
        view = await seen.get()
        assert view is not None
        assert view.node == "node-a"
    assert await seen.get() is None
    following.cancel()


async def test_an_agent_that_stops_lets_go_of_everything() -> None:
    consensus = MemoryConsensus()
    agent = consensus.agent("node-a")
    other = consensus.agent("node-b")
    inside = asyncio.Event()

    async def hold() -> None:
        async with agent.leases.hold("dns-writer"):
            inside.set()
            await asyncio.Event().wait()

    holding = asyncio.create_task(hold())
    await inside.wait()
    await agent.close()
    with pytest.raises(LeaseLost, match="the agent stops"):
        await holding
    async with other.leases.hold("dns-writer") as lease:
        assert lease.epoch > 1
