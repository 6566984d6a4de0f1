"""``constellation agent``: run the agent in the foreground."""

from __future__ import annotations

import os
import sys

import typer

from constellation_core.cli.options import ConfigOption


def agent(config: ConfigOption = None) -> None:
    """Run the agent of this host, in the foreground, until SIGTERM or Ctrl-C."""
    from constellation_core.config import find_config

    path = find_config(config)
    # The agent runs for months and needs nothing of the command line: it starts as a fresh
    # interpreter, under the same process id, and so stays some megabytes smaller.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "constellation_core.agent", str(path)])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(agent)
