"""``constellation restart``, ``reload`` and ``leave``."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.options import ConfigOption, JsonOption


def restart(
    instance: Annotated[str, typer.Argument(help="An instance of this node.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restart an instance of this node."""
    path = f"/api/v1/instances/{quote(instance, safe='')}/restart"
    answer = AgentClient.from_config(config).post(path)
    if as_json:
        output.print_json(answer)
    else:
        output.say(f"restarted {instance}")


def reload(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Load the services file anew; what is unchanged goes on."""
    answer = AgentClient.from_config(config).post("/api/v1/reload")
    if as_json:
        output.print_json(answer)
        return
    output.say(f"{len(answer['services'])} services: {', '.join(answer['services'])}")
    for name, reason in answer["refused"].items():
        output.warn(f"{name} does not run: {reason}")


def leave(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Stop this agent and its services, and say goodbye to the other nodes."""
    answer = AgentClient.from_config(config).post("/api/v1/leave")
    if as_json:
        output.print_json(answer)
    else:
        output.say("the agent leaves the cluster and ends")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(restart)
    app.command()(reload)
    app.command()(leave)
