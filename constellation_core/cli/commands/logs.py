"""``constellation logs``: what an instance of this node wrote."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.errors import CliError
from constellation_core.cli.options import ConfigOption


def logs(
    instance: Annotated[str, typer.Argument(help="An instance of this node, or its service.")],
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many of the last lines.")
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line each.", show_default=False)
    ] = False,
) -> None:
    """Show what an instance of this node wrote."""
    client = AgentClient.from_config(config)
    found = _find(client, instance)
    path = f"/api/v1/instances/{quote(found, safe='')}/logs?tail={lines}"
    for text in client.lines(f"{path}&follow={str(follow).lower()}"):
        line = json.loads(text)
        if as_json:
            output.print_json(line)
            continue
        at = datetime.fromtimestamp(line["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
        mark = "!" if line["stream"] == "stderr" else " "
        # As it is: colours of the program are the program's business.
        output.say(f"{at[:-3]} {mark} {line['text']}")
        sys.stdout.flush()


def _find(client: AgentClient, wanted: str) -> str:
    """The id of the instance; a service's name stands for its instance on this node."""
    node = client.get("/api/v1/status")["node"]
    instances = client.get("/api/v1/instances")
    if any(each["id"] == wanted for each in instances):
        return wanted
    here = [each["id"] for each in instances if each["service"] == wanted and each["node"] == node]
    if here:
        return str(here[0])
    elsewhere = [each["node"] for each in instances if each["service"] == wanted]
    if elsewhere:
        raise CliError(
            f"no instance of {wanted} runs on {node}; it runs on {', '.join(elsewhere)}",
            f"run this on {elsewhere[0]}",
        )
    known = ", ".join(each["id"] for each in instances if each["node"] == node) or "none"
    raise CliError(f"there is no instance or service {wanted!r}", f"on this node: {known}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)
