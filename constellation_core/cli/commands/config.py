"""``constellation config check`` and ``config show``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from constellation_core.cli import output
from constellation_core.cli.errors import USAGE
from constellation_core.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from constellation_core.config import Loaded
    from constellation_core.config.checking import Checked

app = typer.Typer(help="Look at the settings.", no_args_is_help=True, rich_markup_mode=None)


def checked(config: Path | None) -> tuple[Loaded, Checked]:
    """Load the settings and look at everything that can be checked without an agent.

    Raises:
        ConfigError: when agent.toml itself is wrong.
    """
    from constellation_core.config import load
    from constellation_core.config.checking import check_config
    from constellation_core.plugins.commands import load_config_models
    from constellation_core.plugins.discovery import installed_plugins

    loaded = load(config)
    models, failures = load_config_models(loaded.settings.plugins.enabled)
    installed = [each.name for each in installed_plugins()]
    return loaded, check_config(loaded, models, failures, installed)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check agent.toml, the environment, the plugins' tables and the key; exit code 2 if wrong."""
    loaded, result = checked(config)
    if as_json:
        document = {
            "ok": not result.problems,
            "path": str(loaded.path),
            "key": result.fingerprint or None,
            "problems": [asdict(each) for each in result.problems],
            "warnings": [asdict(each) for each in result.warnings],
        }
        output.print_json(document)
    else:
        for problem in result.problems:
            output.error(str(problem))
        for warning in result.warnings:
            output.warn(str(warning))
        if not result.problems:
            key = f", cluster key {result.fingerprint}" if result.fingerprint else ""
            output.say(f"{loaded.path} is right{key}")
    if result.problems:
        raise typer.Exit(USAGE)


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every setting with where it comes from; secrets are never shown."""
    from constellation_core.config import rows

    loaded, result = checked(config)
    listed = rows(loaded, result.plugins)
    if as_json:
        output.print_json([asdict(row) for row in listed])
        return
    output.print_table(
        ("SETTING", "VALUE", "FROM"),
        [
            (
                output.escaped(row.key),
                output.escaped(row.value if isinstance(row.value, str) else json.dumps(row.value)),
                output.escaped(row.origin)
                if row.origin != "default"
                else f"[dim]{row.origin}[/dim]",
            )
            for row in listed
        ],
        "no settings",
    )
