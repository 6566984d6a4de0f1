"""``constellation logs``: what an instance wrote, on whichever node it runs."""

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
    instance: Annotated[
        str, typer.Argument(help="An instance, or a service: its instance here, else its only one.")
    ],
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many of the last lines.")
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line each.", show_default=False)
    ] = False,
) -> None:
    """Show what an instance wrote, on whichever node it runs."""
    client = AgentClient.from_config(config)
    found = _find(client, instance)
    path = f"/api/v1/instances/{quote(found, safe='')}/logs?tail={lines}"
    for text in client.lines(f"{path}&follow={str(follow).lower()}"):
        line = json.loads(text)
        if "error" in line:
            raise CliError(line["error"]["message"], line["error"].get("hint", ""))
        if as_json:
            output.print_json(line)
            continue
        at = datetime.fromtimestamp(line["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
        mark = "!" if line["stream"] == "stderr" else " "
        # As it is: colours of the program are the program's business.
        output.say(f"{at[:-3]} {mark} {line['text']}")
        sys.stdout.flush()


def _find(client: AgentClient, wanted: str) -> str:
    """The id of the instance; a service's name stands for its instance here, or its only one."""
    node = client.get("/api/v1/status")["node"]
    instances = client.get("/api/v1/instances")
    if any(each["id"] == wanted for each in instances):
        return wanted
    of_service = [each for each in instances if each["service"] == wanted]
    here = [each["id"] for each in of_service if each["node"] == node]
    if here or len(of_service) == 1:
        return str(here[0] if here else of_service[0]["id"])
    if of_service:
        ids = ", ".join(each["id"] for each in of_service)
        raise CliError(f"{wanted} has several instances, and none on {node}", f"name one: {ids}")
    known = ", ".join(each["id"] for each in instances if each["node"] == node) or "none"
    raise CliError(f"there is no instance or service {wanted!r}", f"on this node: {known}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)
