"""What the user of the demo sees: a live table in a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from constellation_core.cli.output import BAD, DOUBTFUL, GOOD, QUIET, style_of
from constellation_plugin_demo.chaos import ChaosLog
from constellation_plugin_demo.fleet import DemoFleet
from constellation_plugin_demo.load import LoadStats
from constellation_plugin_demo.result import DemoResult

_REFRESH = 0.25
_LINES = 8
_REPORT_EVERY = 10.0


class LineDisplay:
    """Progress as lines on standard error: for logs, pipes and ``--json``."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """A line about a step."""
        sys.stderr.write(f"[{time.monotonic() - self._began:6.1f} s] {line}\n")
        sys.stderr.flush()

    async def watch(self, _fleet: DemoFleet, load: LoadStats, chaos: ChaosLog) -> None:
        """Say how many requests were answered, now and then."""
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            failed = _failures(load.failed, load.reasons)
            self.say(f"{load.requests} requests, {failed} failed, {_kills(chaos.kills)}")


class TableDisplay:
    """A table that is drawn anew while the demo runs, with the last steps below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._live = False

    def say(self, line: str) -> None:
        """A line about a step."""
        text = f"{time.monotonic() - self._began:6.1f} s  {line}"
        if self._live:
            self._lines.append(text)
        else:
            # Not broken into lines: there is a command in it to be copied.
            self._console.print(Text(text, style=QUIET), soft_wrap=True)

    async def watch(self, fleet: DemoFleet, load: LoadStats, chaos: ChaosLog) -> None:
        """Draw the table until cancelled."""
        window: deque[tuple[float, int]] = deque(maxlen=20)
        with Live(console=self._console, auto_refresh=False) as live:
            self._live = True
            try:
                while True:
                    window.append((time.monotonic(), load.requests))
                    live.update(await self._draw(fleet, load, chaos, _rate(window)), refresh=True)
                    await asyncio.sleep(_REFRESH)
            finally:
                self._live = False

    async def _draw(self, fleet: DemoFleet, load: LoadStats, chaos: ChaosLog, rate: float) -> Group:
        try:
            members = await fleet.cluster.get(fleet.asked.name, "/api/v1/members")
            instances = await fleet.instances()
            routed = await fleet.routed()
        except OSError as error:
            self._lines.append(str(error))
            members, instances, routed = [], {}, set()
        states = {each["name"]: each["state"] for each in members}
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("NODE", "SEEN AS", "INSTANCE", "TRAFFIC"):
            table.add_column(heading)
        table.add_column("ANSWERED", justify="right")
        for name in fleet.names:
            state = states.get(name, "unknown")
            health = instances.get(name, {}).get("health", "none")
            table.add_row(
                f"{name} ✝" if name == chaos.down else name,
                Text(state, style=style_of(state) or QUIET),
                Text(health, style=style_of(health) or QUIET),
                Text("routed", style=GOOD) if name in routed else Text("none", style=DOUBTFUL),
                str(load.by_node[name]),
            )
        return Group(table, summary_line(load, chaos, rate), Text("\n".join(self._lines)))


def summary_line(load: LoadStats, chaos: ChaosLog, rate: float) -> Text:
    """Requests, failures, kills and failovers in one line."""
    line = Text(f"{load.requests} requests ({rate:.0f}/s), ")
    line.append(f"{load.failed} failed", style=BAD if load.failed else GOOD)
    line.append(f", {_kills(chaos.kills)}")
    if chaos.reroute_seconds:
        line.append(f", failover {_seconds(chaos.reroute_seconds)}")
    return line


def print_result(console: Console, result: DemoResult) -> None:
    """The figures at the end, for people."""
    share = result.failed / result.requests if result.requests else 0.0
    rows: list[tuple[str, Any]] = [
        ("nodes", result.nodes),
        ("requests", result.requests),
        ("failed", f"{_failures(result.failed, result.reasons)}, {share:.3%}"),
        ("kills", result.kills),
    ]
    if result.reroute_seconds:
        rows.append(("failover", _seconds(result.reroute_seconds)))
    table = Table(show_header=False, box=None)
    for name, value in rows:
        table.add_row(name, str(value))
    console.print(table)
    if result.ok:
        console.print(Text("the cluster is whole", style=GOOD))
    for problem in result.problems:
        console.print(Text(problem, style=BAD))


def _failures(failed: int, reasons: Mapping[str, int]) -> str:
    if not failed:
        return "0"
    words = ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items()))
    return f"{failed} ({words})"


def _kills(count: int) -> str:
    return f"{count} kill" if count == 1 else f"{count} kills"


def _seconds(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f} s"
    return f"{median(values):.1f} s (median of {len(values)}, longest {max(values):.1f} s)"


def _rate(window: deque[tuple[float, int]]) -> float:
    (began, first), (ended, last) = window[0], window[-1]
    return (last - first) / (ended - began) if ended > began else 0.0
