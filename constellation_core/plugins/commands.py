"""Commands of plugins, for the command line: only what ``constellation --help`` must pay for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from constellation_core.plugins.manager import PluginManager

if TYPE_CHECKING:
    import typer


def load_command_apps(
    enabled: Sequence[str],
) -> tuple[list[tuple[str, typer.Typer]], dict[str, str]]:
    """Import the enabled plugins and let each fill a Typer app of its own.

    Returns:
        The apps of the plugins that add commands, by plugin, in order; and the reasons of
        those that failed, by plugin.
    """
    import typer

    manager = PluginManager()
    # The caller tells the user what failed; the log's own word would be the second.
    logger = logging.getLogger("constellation.plugins")
    disabled, logger.disabled = logger.disabled, True
    try:
        manager.load(enabled)
        apps = []
        for name in list(manager.active):
            if manager.implements(name, "register_commands"):
                app = typer.Typer()
                manager.contribute(name, "register_commands", cli=app)
                if name in manager.active:
                    apps.append((name, app))
    finally:
        logger.disabled = disabled
    failures = {state.name: state.failed for state in manager.states() if state.failed}
    return apps, failures
