"""Adds the commands of enabled plugins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from constellation_core.cli import output
from constellation_core.config import peek_enabled_plugins
from constellation_core.plugins.distributions import Offer


def add_plugin_commands(app: typer.Typer, config: Path | None, offers: Sequence[Offer]) -> None:
    """Add the commands of the plugins that the settings enable; a failed plugin adds none.

    Args:
        app: the command line.
        config: the settings that were named, if any were.
        offers: what is installed.
    """
    enabled = peek_enabled_plugins(config)
    if not enabled:
        return
    from constellation_core.plugins.commands import load_command_apps

    apps, _failures = load_command_apps(enabled, offers)
    taken = command_names(app)
    for name, plugin_app in apps:
        for command in plugin_app.registered_commands:
            called = command.name or _name_of(command.callback)
            if called in taken:
                output.warn(f"the command {called!r} of plugin {name} is left out: it is taken")
                continue
            taken.add(called)
            app.registered_commands.append(command)
        for group in plugin_app.registered_groups:
            called = str(group.name or "")
            if called in taken:
                output.warn(f"the commands {called!r} of plugin {name} are left out: it is taken")
                continue
            taken.add(called)
            app.registered_groups.append(group)


def command_names(app: typer.Typer) -> set[str]:
    """Names of all commands and groups of ``app``."""
    commands = {each.name or _name_of(each.callback) for each in app.registered_commands}
    return commands | {str(each.name) for each in app.registered_groups}


def _name_of(callback: object) -> str:
    # As typer names a command after its function.
    return str(getattr(callback, "__name__", "")).lower().replace("_", "-")
