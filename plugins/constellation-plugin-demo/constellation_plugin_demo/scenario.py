"""A run of the demo, from start to result."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from constellation_core.testing.cluster import NodeEndedError
from constellation_core.testing.waiting import NotInTimeError, until
from constellation_plugin_demo.chaos import Chaos, ChaosLog
from constellation_plugin_demo.fleet import HOST, DemoFleet
from constellation_plugin_demo.load import Load, LoadStats
from constellation_plugin_demo.result import DemoResult

_STEADY_TIMEOUT = 30.0
_WHOLE_AT_END = 30.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user chose.

    Attributes:
        nodes: how many agents.
        rate: requests a second.
        duration: seconds of load; ``None``: until told to stop.
        chaos: whether nodes are killed.
        seed: of the choice of victims.
    """

    nodes: int = 3
    rate: float = 50.0
    duration: float | None = None
    chaos: bool = False
    seed: int | None = None


class Display(Protocol):
    """What the user sees meanwhile."""

    def say(self, line: str) -> None:
        """A line about a step."""

    async def watch(self, fleet: DemoFleet, load: LoadStats, chaos: ChaosLog, /) -> None:
        """Show how things stand until cancelled."""


async def run_demo(
    options: DemoOptions, folder: Path, display: Display, stop: asyncio.Event
) -> DemoResult:
    """Run the demo.

    Args:
        options: what the user chose.
        folder: for all that it writes.
        display: what the user sees.
        stop: set it to end the load; an early end does not wait for healing.

    Raises:
        TraefikError: when Traefik does not start.
        NotInTimeError: when the fleet does not come up.
    """
    names = [f"node-{chr(ord('a') + number)}" for number in range(options.nodes)]
    display.say(f"starting {options.nodes} agents and Traefik in {folder}")
    async with DemoFleet(folder, names) as fleet:
        if not await _unless(stop, fleet.wait_until_whole()):
            return _result(options, LoadStats(), ChaosLog(), ["stopped while it started"])
        display.say(f"all nodes see each other; requests: curl -H 'Host: {HOST}' {fleet.url}")
        load = Load(fleet.url, HOST, options.rate)
        chaos = Chaos(fleet, display.say, Random(options.seed), (options.duration or 30.0) / 4)
        problems = await _act(options, fleet, load, chaos, display, stop)
        display.say("stopping")
    return _result(options, load.stats, chaos.log, problems)


async def _act(
    options: DemoOptions,
    fleet: DemoFleet,
    load: Load,
    chaos: Chaos,
    display: Display,
    stop: asyncio.Event,
) -> list[str]:
    load_ends, chaos_ends = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(load_ends))
        watching = group.create_task(display.watch(fleet, load.stats, chaos.log))
        chaotic = group.create_task(chaos.run(chaos_ends)) if options.chaos else None
        await _wait(stop, options.duration)
        chaos_ends.set()
        if chaotic is not None:
            await _unless(stop, chaotic)
        problems = list(chaos.log.not_healed)
        lacking = await _at_last(fleet, load.stats, chaos.log, stop)
        if lacking:
            problems.append(lacking)
        watching.cancel()
        load_ends.set()
    return problems


async def _at_last(fleet: DemoFleet, load: LoadStats, chaos: ChaosLog, stop: asyncio.Event) -> str:
    """What lacks at the end; without an early stop the fleet gets time to become whole."""
    if stop.is_set() and chaos.down:
        return f"stopped while {chaos.down} was down"
    try:
        if stop.is_set():
            return await fleet.missing()
        await fleet.wait_until_whole(_WHOLE_AT_END)

        async def steady() -> bool:
            return load.steady() or stop.is_set()

        await until(steady, _STEADY_TIMEOUT, "requests to succeed", explain=lambda: _why(load))
    except (NotInTimeError, NodeEndedError) as error:
        return str(error)
    return ""


def _why(load: LoadStats) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in load.reasons.most_common(3))


async def _wait(stop: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


async def _unless(
    stop: asyncio.Event, work: Coroutine[Any, Any, None] | asyncio.Task[None]
) -> bool:
    """Do ``work`` unless ``stop`` is set first; whether it was done. Raises what it raises."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def _result(
    options: DemoOptions, load: LoadStats, chaos: ChaosLog, problems: list[str]
) -> DemoResult:
    return DemoResult(
        nodes=options.nodes,
        requests=load.requests,
        failed=load.failed,
        reasons=dict(load.reasons),
        kills=chaos.kills,
        reroute_seconds=tuple(chaos.reroute_seconds),
        problems=tuple(problems),
    )
