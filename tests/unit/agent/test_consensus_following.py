"""What an agent tells its plugins and its journal of consensus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from constellation_core.agent.bridge import EventBridge
from constellation_core.agent.consensus.absent import AbsentConsensus
from constellation_core.agent.consensus.following import ConsensusWatch
from constellation_core.agent.journal import EventJournal
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.plugins.delivery import EventDelivery
from constellation_core.plugins.events import PluginEvent
from constellation_core.plugins.manager import PluginManager
from constellation_core.testing.consensus.memory import MemoryBackend, MemoryConsensus


class Told(EventDelivery):
    """Keeps what plugins would be told."""

    def __init__(self) -> None:
        super().__init__(PluginManager())
        self.events: list[PluginEvent] = []

    def publish(self, event: PluginEvent, *, only: str | None = None) -> None:
        self.events.append(event)

    def take(self) -> list[tuple[str, Any]]:
        """What was told of leases and leaders since the last time."""
        events, self.events = self.events, []
        return [(each.hook, each.arguments.get("lease") or dict(each.arguments)) for each in events]


class World:
    """Agents of one consensus, and the watch of one of them."""

    def __init__(self) -> None:
        self.consensus = MemoryConsensus()
        self.clock = self.consensus.clock
        self.told = Told()
        self.journal = EventJournal(self.clock)
        self.backend: ConsensusBackend = self.consensus.agent("me")
        self.watch = ConsensusWatch(
            lambda: self.backend,
            EventBridge(self.told, self.journal),
            self.journal,
            self.clock,
        )

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self.watch.follow_leases()),
            asyncio.create_task(self.watch.follow_leader()),
        ]
        try:
            await self.clock.advance(0.1)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal.after(0)]


def names(told: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(hook, lease.node) for hook, lease in told]


async def test_leases_are_told_when_they_come_pass_on_and_go() -> None:
    world = World()
    here, there = world.consensus.agent("node-a"), world.consensus.agent("node-b")
    async with world.followed():
        async with here.leases.hold("dns-writer") as lease:
            await world.clock.advance(0.1)
            assert names(world.told.take()) == [("lease_acquired", "node-a")]
            assert world.watch.leases["dns-writer"].epoch == lease.epoch
        async with there.leases.hold("dns-writer"):
            await world.clock.advance(0.1)
            told = names(world.told.take())
            assert told == [("lease_lost", "node-a"), ("lease_acquired", "node-b")]
        await world.clock.advance(0.1)
        assert names(world.told.take()) == [("lease_lost", "node-b")]
    assert world.kinds.count("lease-acquired") == 2
    assert world.kinds.count("lease-lost") == 2


async def test_renewals_are_no_news() -> None:
    world = World()
    async with world.followed(), world.consensus.agent("node-a").leases.hold("dns-writer"):
        await world.clock.advance(300)
        assert names(world.told.take()) == [("lease_acquired", "node-a")]


async def test_the_table_says_for_how_long_a_lease_is_held_if_that_is_known() -> None:
    world = World()
    agent = world.consensus.agent("node-a")
    async with agent.leases.hold("old"), world.followed(), agent.leases.hold("new", ttl=30):
        await world.clock.advance(20)
        new, old = world.watch.rows()
        assert (new["name"], new["node"], new["ttl"]) == ("new", "node-a", 30.0)
        assert 19 < new["held"] < 21
        assert (old["name"], old["held"]) == ("old", None)
        assert new["epoch"] > old["epoch"]


async def test_what_was_last_known_stays_while_nothing_is_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    async with world.followed(), world.consensus.agent("node-a").leases.hold("dns-writer"):
        await world.clock.advance(0.1)
        world.consensus.available = False
        await world.clock.advance(20)
        assert list(world.watch.leases) == ["dns-writer"]
        assert "consensus-unavailable" in world.kinds
        caplog.clear()
        world.consensus.available = True
        await world.clock.advance(5)
        assert world.kinds[-1] == "consensus-available"
        assert "consensus can be used" in caplog.text


class Led(MemoryBackend):
    """With a leader."""

    leader: str | None = None

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "leader": self.leader}


async def test_changes_of_the_leader_are_told_with_the_one_before() -> None:
    world = World()
    agent = world.consensus.agent("me")
    world.backend = backend = Led.__new__(Led)
    backend.__dict__.update(agent.__dict__)
    async with world.followed():
        backend.leader = "node-a"
        await world.clock.advance(2)
        backend.leader = None
        await world.clock.advance(2)
        backend.leader = "node-b"
        await world.clock.advance(2)
        assert [arguments for hook, arguments in world.told.take() if hook == "leader_changed"] == [
            {"leader": "node-a", "previous": None},
            {"leader": None, "previous": "node-a"},
            {"leader": "node-b", "previous": None},
        ]
    assert world.watch.leader == "node-b"


async def test_when_the_backend_is_gone_nothing_is_held_as_far_as_is_known() -> None:
    world = World()
    async with world.followed(), world.consensus.agent("node-a").leases.hold("dns-writer"):
        await world.clock.advance(0.1)
        world.told.take()
        world.backend = AbsentConsensus("the plugin has failed")
        world.watch.switched()
        await world.clock.advance(3)
        assert dict(world.watch.leases) == {}
        assert names(world.told.take()) == [("lease_lost", "node-a")]
