"""The command ``constellation hello``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def hello(
    config: Annotated[Path | None, typer.Option(help="The agent's agent.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let the agent on this host say hello."""
    from constellation_core.cli.client import AgentClient

    answer = AgentClient.from_config(config).get("/api/hello")
    if as_json:
        print(json.dumps(answer))
    else:
        print(f"{answer['greeting']} from {answer['node']}, which knows {answer['nodes']} nodes.")
