"""``constellation events``: what happened, and what happens."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.options import ConfigOption

_COLOURS = {
    "node-joined": output.GOOD,
    "node-recovered": output.GOOD,
    "node-suspect": output.DOUBTFUL,
    "node-conflict": output.DOUBTFUL,
    "node-failed": output.BAD,
    "plugin-failed": output.BAD,
    "wrong-key": output.BAD,
}


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    since: Annotated[int, typer.Option(help="Only events after the one with this id.")] = 0,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one event a line.", show_default=False)
    ] = False,
) -> None:
    """Show recent events: nodes, health, services, plugins."""
    client = AgentClient.from_config(config)
    path = f"/api/v1/events?since={since}"
    if not follow:
        for event in client.get(path):
            _show(event, as_json)
        return
    for line in client.lines(path, accept="text/event-stream"):
        if line.startswith("data: "):
            _show(json.loads(line.removeprefix("data: ")), as_json)


def _show(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(event)
        return
    at = datetime.fromtimestamp(event["at"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    kind = str(event["kind"])
    health = str(event["data"].get("health", ""))
    style = _COLOURS.get(kind) or output.style_of(health)
    word = f"[{style}]{kind}[/{style}]" if style else kind
    subject, detail = output.escaped(event["subject"]), output.escaped(event["detail"])
    output.console().print(f"[dim]{at}[/dim]  {word}  [bold]{subject}[/bold] {detail}")
    sys.stdout.flush()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(events)
