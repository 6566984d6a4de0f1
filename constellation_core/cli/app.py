"""Puts the command line together: the core's commands, standalone ones, those of plugins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from constellation_core import __version__
from constellation_core.cli import output
from constellation_core.cli.commands import (
    agent,
    config,
    consensus,
    control,
    events,
    fleet,
    init,
    logs,
    plugins,
    status,
    verify,
)
from constellation_core.cli.options import ConfigOption
from constellation_core.cli.plugin_commands import add_plugin_commands
from constellation_core.cli.standalone import add_standalone_commands
from constellation_core.plugins.distributions import COMMANDS, PLUGINS, find_offers


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The whole command line, for these arguments (which may name other settings)."""
    app = typer.Typer(
        name="constellation",
        help="An orchestrator for fleets of hosts without a control plane.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for module in (init, agent, status, fleet, events, logs, verify, control):
        module.register(app)
    app.add_typer(plugins.app, name="plugins")
    app.add_typer(config.app, name="config")
    app.add_typer(consensus.app, name="consensus")
    offers = find_offers(COMMANDS, PLUGINS)
    add_standalone_commands(app, offers)
    add_plugin_commands(app, _config_of(arguments), offers)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        output.say(f"constellation {__version__}")
        raise typer.Exit


def _root(
    config: ConfigOption = None,
    version: Annotated[  # noqa: ARG001 - handled by its callback, before a command is asked for
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    if config is not None:
        # Given before the command, it stands for the option of the command.
        os.environ["CONSTELLATION_CONFIG"] = str(config)


def _config_of(arguments: Sequence[str]) -> Path | None:
    """The value of ``--config``, which says what plugins there are, before anything is parsed."""
    for position, word in enumerate(arguments):
        if word in ("--config", "-c") and position + 1 < len(arguments):
            return Path(arguments[position + 1])
        if word.startswith("--config="):
            return Path(word.partition("=")[2])
    return None
