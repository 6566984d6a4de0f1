"""``constellation plugins``: list, info, enable, disable."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.errors import CliError
from constellation_core.cli.options import ConfigOption, JsonOption

app = typer.Typer(
    help="Look at plugins and choose them.", no_args_is_help=True, rich_markup_mode=None
)

PluginName = Annotated[str, typer.Argument(help="The plugin's name.")]


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show all plugins: enabled, available, or failed with the reason."""
    rows = _plugins(config)
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("PLUGIN", "VERSION", "STATE", "SUMMARY"),
        [
            (
                output.escaped(row["name"]),
                output.escaped(row["version"]),
                output.styled(row["state"]),
                _remark(row) or output.escaped(row["summary"]),
            )
            for row in rows
        ],
        "no plugins are installed",
    )


def _remark(row: dict[str, Any]) -> str:
    style = output.BAD if row["state"] == "failed" else output.DOUBTFUL
    return f"[{style}]{output.escaped(row['reason'])}[/{style}]" if row["reason"] else ""


@app.command()
def info(name: PluginName, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one plugin."""
    rows = {row["name"]: row for row in _plugins(config)}
    if name not in rows:
        from constellation_core.config.problems import did_you_mean, nearest

        raise CliError(
            f"no plugin {name!r} is installed{did_you_mean(nearest(name, rows))}",
            "constellation plugins list",
        )
    if as_json:
        output.print_json(rows[name])
        return
    for key, value in rows[name].items():
        if value not in ("", None):
            shown = output.styled(value) if key == "state" else output.escaped(value)
            output.console().print(f"[bold]{key.replace('_', ' '):14}[/bold] {shown}")


@app.command()
def enable(name: PluginName, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put a plugin into [plugins] enabled of agent.toml, keeping its comments."""
    from constellation_core.config import find_config
    from constellation_core.config.editing import enable_plugin
    from constellation_core.plugins.discovery import installed_plugins

    available = [each.name for each in installed_plugins()]
    path = find_config(config)
    _told(name, "enabled", path, enable_plugin(path, name, available), as_json)


@app.command()
def disable(name: PluginName, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take a plugin out of [plugins] enabled of agent.toml, keeping its comments."""
    from constellation_core.config import find_config
    from constellation_core.config.editing import disable_plugin
    from constellation_core.plugins.discovery import installed_plugins

    available = [each.name for each in installed_plugins()]
    path = find_config(config)
    _told(name, "disabled", path, disable_plugin(path, name, available), as_json)


def _told(name: str, word: str, path: Path, edited: Any, as_json: bool) -> None:
    if as_json:
        output.print_json({"plugin": name, "path": str(path), **asdict(edited)})
        return
    if edited.changed:
        output.say(f"{word} {name} in {path}; a running agent takes it at its next start")
    else:
        output.say(f"{name} is {word} in {path} already")
    if edited.overridden_by:
        output.warn(f"${edited.overridden_by} overrides the list in the file")


def _plugins(config: Path | None) -> list[dict[str, Any]]:
    """As the running agent has them or, without one, as they would load."""
    from constellation_core.config import ConfigError, peek_enabled_plugins
    from constellation_core.plugins.listing import list_plugins, with_changes

    enabled = peek_enabled_plugins(config)
    try:
        rows: list[dict[str, Any]] = AgentClient.from_config(config).get("/api/v1/plugins")
    except (CliError, ConfigError):
        pass
    else:
        return with_changes(rows, enabled, [asdict(each) for each in list_plugins((), {})])
    from constellation_core.cli.commands.config import checked
    from constellation_core.plugins.commands import load_command_apps, load_config_models
    from constellation_core.plugins.distributions import PLUGINS, find_offers

    failures = {
        **load_command_apps(enabled, find_offers(PLUGINS))[1],
        **load_config_models(enabled)[1],
    }
    try:
        for problem in checked(config)[1].problems:
            words = problem.key.split(".")
            if words[0] == "plugins" and len(words) > 1 and words[1] in enabled:
                failures.setdefault(words[1], str(problem))
    except ConfigError:
        # Wrong settings elsewhere say nothing about plugins; `config check` tells of them.
        pass
    return [asdict(each) for each in list_plugins(enabled, failures)]
