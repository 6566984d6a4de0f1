"""Which backend keeps an agent's consensus, and that a plugin's is no more trusted than it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from constellation_core import LeaseLost, Unavailable, hookimpl
from constellation_core.agent.bridge import EventBridge
from constellation_core.agent.consensus.absent import AbsentConsensus
from constellation_core.agent.consensus.brought import BroughtConsensus
from constellation_core.agent.consensus.keeping import AgentConsensus, Surroundings
from constellation_core.agent.consensus.raft import RaftConsensus
from constellation_core.agent.data_dir import DataDir
from constellation_core.agent.discovery import Discovery
from constellation_core.agent.journal import EventJournal
from constellation_core.config import ClusterKey, Settings
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.gossip import Gossip
from constellation_core.plugins.delivery import EventDelivery
from constellation_core.plugins.manager import PluginManager
from constellation_core.plugins.tasks import Supervisor
from constellation_core.testing.consensus.memory import MemoryConsensus
from constellation_core.testing.manual_clock import ManualClock


class Brings:
    """A plugin that brings a backend, or what it was given instead of one."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @hookimpl
    def consensus_backend(self, context: Any) -> Any:
        if isinstance(self.backend, Exception):
            raise self.backend
        return self.backend


class World:
    """What of an agent its consensus needs."""

    def __init__(self, tmp_path: Path, **plugins: Any) -> None:
        self.manager = PluginManager()
        for name, brought in plugins.items():
            self.manager.register(name, Brings(brought))
        self.clock = ManualClock()
        self.supervisor = Supervisor(self.clock)
        journal = EventJournal(self.clock)
        bridge = EventBridge(EventDelivery(self.manager), journal)
        self.consensus = AgentConsensus(self.manager, self.supervisor, bridge, journal, self.clock)
        self.consensus.note_keepers()
        self.told: list[str] = []
        self.around = Surroundings(
            Settings(),
            ClusterKey.generate(),
            cast(Gossip, SimpleNamespace(local=SimpleNamespace(name="a"), streams=None)),
            cast(Discovery, SimpleNamespace(told_of_others=False)),
            DataDir(tmp_path),
            self.told.append,
        )

    def choose(self, key: ClusterKey | None = None) -> ConsensusBackend:
        around = Surroundings(
            self.around.settings,
            key,
            self.around.gossip,
            self.around.discovery,
            self.around.data_dir,
            self.around.tell,
        )
        contexts: Mapping[str, Any] = {name: object() for name in self.manager.active}
        self.consensus.choose(around, contexts)
        return self.consensus.backend

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        self.consensus.start()
        try:
            await self.clock.advance(0.1)
            yield
        finally:
            await self.supervisor.close()

    def failure(self, name: str) -> str | None:
        return {each.name: each.failed for each in self.manager.states()}[name]


def memory() -> ConsensusBackend:
    return MemoryConsensus().agent("a")


async def test_without_a_plugin_the_built_in_voters_keep_it(tmp_path: Path) -> None:
    world = World(tmp_path, other=None)
    assert isinstance(world.choose(ClusterKey.generate()), RaftConsensus)
    assert world.told == []


async def test_without_a_cluster_key_there_is_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    backend = world.choose()
    with pytest.raises(Unavailable, match="encryption"):
        await backend.store.put("a", b"")
    with pytest.raises(Unavailable, match="encryption"):
        await backend.leases.hold("a").__aenter__()
    with pytest.raises(Unavailable, match="encryption"):
        await anext(backend.store.watch("a"))
    assert await anext(backend.leases.watch_all()) == {}
    assert await anext(backend.leases.watch("a")) is None
    assert "encryption" in backend.describe()["problems"][0]


async def test_a_plugins_backend_takes_the_place_also_without_a_key(tmp_path: Path) -> None:
    world = World(tmp_path, etcd=memory())
    backend = world.choose()
    assert isinstance(backend, BroughtConsensus)
    assert await backend.store.put("a", b"1") > 0
    # The others are told, so that nobody founds something beside it.
    assert world.told == ["memory"]


async def test_a_second_one_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, one=memory(), two=memory())
    backend = world.choose()
    assert isinstance(backend, BroughtConsensus)
    assert backend.plugin == "one"
    assert world.manager.active == ["one"]
    assert "one keeps consensus already" in str(world.failure("two"))


class Nameless:
    name = "not a word"


@pytest.mark.parametrize(
    ("brought", "reason"),
    [
        (RuntimeError("no endpoints"), "no endpoints"),
        (Nameless(), "store.get"),
        (5, "type int is no ConsensusBackend"),
    ],
)
async def test_when_who_should_keep_it_fails_the_built_in_voters_do_not_step_in(
    tmp_path: Path, brought: Any, reason: str
) -> None:
    world = World(tmp_path, etcd=brought, other=None)
    backend = world.choose(ClusterKey.generate())
    assert isinstance(backend, AbsentConsensus)
    assert reason in str(world.failure("etcd"))
    assert "plugin etcd" in backend.describe()["problems"][0]
    assert world.manager.active == ["other"]


async def test_nor_do_they_when_it_fails_for_its_settings(tmp_path: Path) -> None:
    world = World(tmp_path, etcd=memory())
    world.manager.fail("etcd", "its table is wrong")
    assert isinstance(world.choose(ClusterKey.generate()), AbsentConsensus)


async def test_nor_when_what_kept_it_before_cannot_even_be_imported(tmp_path: Path) -> None:
    assert isinstance(World(tmp_path, etcd=memory()).choose(), BroughtConsensus)
    world = World(tmp_path)
    world.manager.load(["etcd"], [])
    backend = world.choose(ClusterKey.generate())
    assert "plugin etcd" in backend.describe()["problems"][0]
    # Whoever takes it out of the settings wants the voters.
    assert isinstance(World(tmp_path).choose(ClusterKey.generate()), RaftConsensus)


class Odd:
    """A backend whose every word is odd."""

    name = "odd"

    def __init__(self, said: Any) -> None:
        good = memory()
        self.store, self.leases = good.store, good.leases
        self.said = said
        self.closed = 0

    async def run(self) -> None:
        raise SystemExit("on purpose")

    async def close(self) -> None:
        self.closed += 1
        raise KeyboardInterrupt

    def describe(self) -> Any:
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    "said",
    [SystemExit("on purpose"), None, {}, {"problems": 5}, {1: 2}, {"leader": object()}],
)
async def test_what_it_says_of_itself_becomes_a_document_whatever_it_is(
    tmp_path: Path, said: Any
) -> None:
    world = World(tmp_path, odd=Odd(said))
    document = world.choose().describe()
    assert document["available"] is False
    assert isinstance(document["problems"], list)
    assert isinstance(document["leader"], str | None)


async def test_what_it_raises_ends_nothing_else(tmp_path: Path) -> None:
    odd = Odd({"available": True, "leader": None, "problems": [], "backend": "odd"})
    world = World(tmp_path, odd=odd)
    world.choose()
    async with world.started():
        (status,) = [each for each in world.supervisor.statuses() if each.name == "backend"]
        assert "on purpose" in status.last_error
        await world.consensus.stop()
    assert odd.closed == 1


async def test_when_its_plugin_fails_later_there_is_none_any_more(tmp_path: Path) -> None:
    world = World(tmp_path, etcd=memory(), other=None)
    before = world.choose()
    async with world.started():
        await world.consensus.plugin_failed("other")
        assert world.consensus.backend is before
        await world.consensus.plugin_failed("etcd")
        assert isinstance(world.consensus.backend, AbsentConsensus)
        running = {each.name for each in world.supervisor.statuses() if each.state == "running"}
        assert running == {"leases", "leader"}
        with pytest.raises(Unavailable, match="etcd"):
            await world.consensus.backend.store.get("a")


async def test_at_the_end_what_is_held_is_released(tmp_path: Path) -> None:
    shared = MemoryConsensus()
    world = World(tmp_path, mine=shared.agent("a"))
    world.choose()
    inside = asyncio.Event()

    async def hold() -> None:
        async with world.consensus.backend.leases.hold("dns-writer"):
            inside.set()
            await asyncio.Event().wait()

    async with world.started():
        holding = asyncio.create_task(hold())
        await inside.wait()
        await world.consensus.stop()
        with pytest.raises(LeaseLost, match="the agent stops"):
            await holding
        async with shared.agent("b").leases.hold("dns-writer") as lease:
            assert lease.remaining > 0
