"""Five agents and five Serf agents, each on its own host, under the same cuts at the same time.

The hosts are network namespaces, joined by a bridge for each cluster; cuts are made with iptables.
Every agent has a service, so that catalogs are compared too. Where the memory of the dead is to be
outlasted, it is made short for both: forget_dead, and Serf's reconnect_timeout; and that cut is
held for longer than memberlist goes on gossiping to the dead.

Needs root. The picture of who saw whom goes to BENCHMARK_OUTPUT, or to the folder for temporary
files.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.membership_plot import Phase, draw
from benchmarks.result import BenchmarkResult, Criterion, MissingPeerError, Tell
from benchmarks.serf import SerfNodes, find_serf
from benchmarks.watched import Sight, WatchedCluster
from constellation_core.testing.cluster import LocalCluster
from constellation_core.testing.namespaces import NamespaceNetwork, why_no_namespaces
from constellation_core.testing.waiting import NotInTimeError, until
from constellation_plugin_demo.fleet import services_file

SUMMARY = "seconds until five agents agree after partitions and one-way links, beside Serf; a plot"

_NAMES = ("a", "b", "c", "d", "e")
_MANY, _FEW = ("a", "b", "c"), ("d", "e")
_POLL = 0.2
_LIMIT = 60.0
_CHANCE = 1.0
"""Seconds. Both try the lost at intervals: who does so first after the cut is over is chance."""
"""Seconds; who needs more is said not to converge."""
_LINK = 25.0
"""Seconds for which a link is bad."""
_CALM = 3.0
_FORGET = 8.0
_HOLD = 40.0
"""Seconds: longer than the 30 for which memberlist tells the dead that they are."""
_PORT, _CONTROL = 7946, 7373


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about five minutes."""
    find_serf()
    missing = why_no_namespaces()
    if missing:
        raise MissingPeerError(f"this needs network namespaces: {missing}")
    return asyncio.run(_measure(tell))


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is done to the network.

    Attributes:
        name: for the output.
        make: does it.
        sides: who can reach each other, be it through others; all, when nobody should be lost.
        forgotten: wait until the sides have forgotten each other, and for some time more.
    """

    name: str
    make: Callable[[NamespaceNetwork], None]
    sides: tuple[tuple[str, ...], ...] = (_NAMES,)
    forgotten: bool = False


def _one_way(network: NamespaceNetwork) -> None:
    network.drop("a", "b")


def _udp_lost(network: NamespaceNetwork) -> None:
    for name in ("a", "b", "c", "d"):
        network.drop(name, "e", protocol="udp")
        network.drop("e", name, protocol="udp")


def _split(network: NamespaceNetwork) -> None:
    network.split(_MANY, _FEW)


_CUTS = (
    _Cut("split", _split, (_MANY, _FEW)),
    _Cut("one_way", _one_way),
    _Cut("udp_lost", _udp_lost),
    _Cut("outlasting_memory", _split, (_MANY, _FEW), forgotten=True),
)


@dataclass(slots=True)
class _Views:
    """What the nodes of one cluster see, and have seen.

    Attributes:
        alive: whom each node holds to be alive now.
        known: whom each node lists in any state.
        catalogs: what each node knows of services; the same for all when there are none.
        history: how many each saw, since when.
        false_failures: who declared whom dead that it could reach.
    """

    began: float
    alive: dict[str, set[str]] = field(default_factory=lambda: {name: {name} for name in _NAMES})
    known: dict[str, set[str]] = field(default_factory=lambda: {name: {name} for name in _NAMES})
    catalogs: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[tuple[float, int]]] = field(
        default_factory=lambda: {name: [(0.0, 1)] for name in _NAMES}
    )
    false_failures: list[tuple[str, str]] = field(default_factory=list)

    def note(self, name: str, alive: set[str]) -> None:
        """Node ``name`` sees this now."""
        self.alive[name] = alive
        if self.history[name][-1][1] != len(alive):
            self.history[name].append((time.monotonic() - self.began, len(alive)))

    def whole(self) -> bool:
        """Whether all see all, and all know the same of services."""
        catalogs = list(self.catalogs.values())
        return all(seen == set(_NAMES) for seen in self.alive.values()) and all(
            each == catalogs[0] for each in catalogs
        )

    def split(self, sides: tuple[tuple[str, ...], ...]) -> bool:
        """Whether each sees its own side and nobody else."""
        return all(self.alive[name] == set(side) for side in sides for name in side)

    def forgotten(self, sides: tuple[tuple[str, ...], ...]) -> bool:
        """Whether each lists its own side and nobody else."""
        return all(self.known[name] == set(side) for side in sides for name in side)


class _Ours:
    """Our agents; asked over their sockets again and again."""

    def __init__(self, folder: Path, network: NamespaceNetwork, began: float) -> None:
        gossip = {"forget_dead": _FORGET, "push_pull_interval": 5.0}
        self.network = network
        self.views = _Views(began)
        self.reachable: dict[str, set[str]] = {name: set(_NAMES) for name in _NAMES}
        self._cluster = LocalCluster(
            folder, _NAMES, services=services_file(), settings={"gossip": gossip}, hosts=network
        )
        self._asking: asyncio.Task[None] | None = None
        self._events = dict.fromkeys(_NAMES, 0)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start, and look from now on."""
        await stack.enter_async_context(self._cluster)
        self._asking = asyncio.create_task(self._ask_always())
        stack.push_async_callback(self._stop)

    async def _stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking

    async def _ask_always(self) -> None:
        while True:
            await asyncio.gather(*(self._ask(name) for name in _NAMES))
            await asyncio.sleep(_POLL)

    async def _ask(self, name: str) -> None:
        try:
            members = await self._cluster.get(name, "/api/v1/members")
            instances = await self._cluster.get(name, "/api/v1/instances")
            events = await self._cluster.get(name, "/api/v1/events")
        except OSError:
            return
        self.views.note(name, {m["name"] for m in members if m["state"] in ("alive", "suspect")})
        self.views.known[name] = {each["name"] for each in members}
        self.views.catalogs[name] = sorted((each["id"], each["health"]) for each in instances)
        for event in events:
            if event["id"] > self._events[name]:
                self._events[name] = event["id"]
                if event["kind"] == "node-failed" and event["subject"] in self.reachable[name]:
                    self.views.false_failures.append((name, event["subject"]))


class _Serfs:
    """Serf agents, whose logs are read."""

    def __init__(self, folder: Path, network: NamespaceNetwork, began: float) -> None:
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        settings = {"reconnect_timeout": f"{_FORGET:g}s"}
        self.network = network
        self.views = _Views(began)
        self.reachable: dict[str, set[str]] = {name: set(_NAMES) for name in _NAMES}
        self._cluster = WatchedCluster(
            SerfNodes(key, settings),
            {
                name: (f"{network.address(name)}:{_PORT}", f"127.0.0.1:{_CONTROL}")
                for name in _NAMES
            },
            folder,
            network.command,
        )
        self._cluster.on_sight = self._note

    async def start(self, stack: AsyncExitStack) -> None:
        """Start, and look from now on."""
        stack.push_async_callback(self._cluster.close)
        await self._cluster.start_all()

    def _note(self, name: str, sight: Sight, _when: float) -> None:
        views = self.views
        alive = set(views.alive[name])
        if sight.kind == "alive":
            alive.add(sight.member)
            views.known[name].add(sight.member)
        elif sight.kind in ("failed", "left", "forgotten"):
            alive.discard(sight.member)
        if sight.kind == "forgotten":
            views.known[name].discard(sight.member)
        if sight.kind == "failed" and sight.member in self.reachable[name]:
            views.false_failures.append((name, sight.member))
        views.note(name, alive)


_Side = _Ours | _Serfs


async def _measure(tell: Tell) -> BenchmarkResult:
    output = Path(os.environ.get("BENCHMARK_OUTPUT", tempfile.gettempdir()))
    picture = output / "gossip-partitions.png"
    began = time.monotonic()
    phases: list[Phase] = []
    seconds: dict[str, dict[str, float | None]] = {"ours": {}, "peer": {}}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gossip-cuts-")))
        sides: dict[str, _Side] = {}
        for name, kind, prefix in (("ours", _Ours, "10.203.7"), ("peer", _Serfs, "10.203.8")):
            (folder / name).mkdir()
            network = stack.enter_context(NamespaceNetwork(_NAMES, prefix=prefix))
            sides[name] = kind(folder / name, network, began)
        tell("starting five agents and five Serf agents, on ten hosts")
        await asyncio.gather(*(each.start(stack) for each in sides.values()))
        for name, side in sides.items():
            await until(_so(side.views.whole), _LIMIT, f"{name} to be whole")
        await asyncio.sleep(_CALM)
        for cut in _CUTS:
            tell(f"{cut.name.replace('_', ' ')}")
            begin = time.monotonic() - began
            healed = await _cut(cut, sides, seconds)
            end = time.monotonic() - began
            phases.append(Phase(cut.name.replace("_", " "), begin, healed - began, end))
    draw(
        picture,
        {"Constellation": sides["ours"].views.history, "Serf": sides["peer"].views.history},
        phases,
        len(_NAMES),
    )
    tell(f"who saw how many members, over time: {picture}")
    return _result(seconds, sides, picture)


async def _cut(
    cut: _Cut, sides: Mapping[str, _Side], seconds: Mapping[str, dict[str, float | None]]
) -> float:
    """Cut, wait, heal, wait; when it was healed."""
    for side in sides.values():
        for group in cut.sides:
            for name in group:
                side.reachable[name] = set(group)
        cut.make(side.network)
    began = time.monotonic()
    lost = len(cut.sides) > 1
    if lost:
        for name, found in (await _all(sides, began, lambda v: v.split(cut.sides))).items():
            seconds[name][f"{cut.name}_seen_s"] = found
    else:
        await asyncio.sleep(_LINK)
    if cut.forgotten:
        for name, found in (await _all(sides, began, lambda v: v.forgotten(cut.sides))).items():
            seconds[name][f"{cut.name}_forgotten_s"] = found
        await asyncio.sleep(_HOLD)
    for side in sides.values():
        side.network.heal()
    healed = time.monotonic()
    # Until the others can be reached, nobody is blamed: what was said before may still come.
    for name, found in (await _all(sides, healed, _Views.whole)).items():
        seconds[name][f"{cut.name}_healed_s"] = found
    for side in sides.values():
        side.reachable = {name: set(_NAMES) for name in _NAMES}
    await asyncio.sleep(_CALM)
    return healed


async def _all(
    sides: Mapping[str, _Side], since: float, condition: Callable[[_Views], bool]
) -> dict[str, float | None]:
    """Seconds until it was so in each cluster; ``None`` when it was not in time."""

    async def wait(views: _Views) -> float | None:
        try:
            await until(_so(lambda: condition(views)), _LIMIT, "it", interval=0.02)
        except NotInTimeError:
            return None
        return round(time.monotonic() - since, 2)

    found = await asyncio.gather(*(wait(side.views) for side in sides.values()))
    return dict(zip(sides, found, strict=True))


def _so(condition: Callable[[], bool]) -> Any:
    async def ask() -> bool:
        return condition()

    return ask


def _result(
    seconds: Mapping[str, Mapping[str, float | None]], sides: Mapping[str, _Side], picture: Path
) -> BenchmarkResult:
    figures = {
        name: {**seconds[name], "false_failures": len(side.views.false_failures)}
        for name, side in sides.items()
    }
    ours, peer = figures["ours"], figures["peer"]
    healed = [ours[f"{cut.name}_healed_s"] for cut in _CUTS]
    in_sum = {
        name: sum(_LIMIT if (s := each[f"{cut.name}_healed_s"]) is None else s for cut in _CUTS)
        for name, each in figures.items()
    }
    return BenchmarkResult(
        "gossip-partitions",
        ours={**ours, "picture": str(picture)},
        peer=peer,
        ratio=round(in_sum["ours"] / max(in_sum["peer"], 0.01), 3),
        criteria=(
            Criterion(
                f"views and catalogs agree within {_LIMIT:g} s after every cut", None not in healed
            ),
            Criterion("nobody that can be reached is declared dead", ours["false_failures"] == 0),
            Criterion(
                f"after a split no slower than Serf, give or take {_CHANCE:g} s",
                None not in healed
                and (
                    peer["split_healed_s"] is None
                    or (ours["split_healed_s"] or 0.0) <= peer["split_healed_s"] + _CHANCE
                ),
            ),
        ),
    )
