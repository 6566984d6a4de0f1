"""What the command line needs of plugins, without an agent: their commands and settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from constellation_core.plugins.manager import PluginManager

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel


def load_command_apps(
    enabled: Sequence[str],
) -> tuple[list[tuple[str, typer.Typer]], dict[str, str]]:
    """Import the enabled plugins and let each fill a Typer app of its own.

    Returns:
        The apps of the plugins that add commands, by plugin, in order; and the reasons of
        those that failed, by plugin.
    """
    import typer

    with _quiet_manager(enabled) as manager:
        apps = []
        for name in list(manager.active):
            if manager.implements(name, "register_commands"):
                app = typer.Typer()
                manager.contribute(name, "register_commands", cli=app)
                if name in manager.active:
                    apps.append((name, app))
    return apps, _failures(manager)


def load_config_models(
    enabled: Sequence[str],
) -> tuple[dict[str, type[BaseModel] | None], dict[str, str]]:
    """Import the enabled plugins and ask each for the model of its settings.

    Returns:
        The models by plugin, ``None`` for one without settings; and the reasons of the
        plugins that failed, by plugin.
    """
    with _quiet_manager(enabled) as manager:
        models = {}
        for name in list(manager.active):
            model = manager.contribute(name, "config_model")
            if name in manager.active:
                models[name] = model
    return models, _failures(manager)


@contextmanager
def _quiet_manager(enabled: Sequence[str]) -> Iterator[PluginManager]:
    # The caller tells the user what failed; the log's own word would be the second.
    logger = logging.getLogger("constellation.plugins")
    disabled, logger.disabled = logger.disabled, True
    try:
        manager = PluginManager()
        manager.load(enabled)
        yield manager
    finally:
        logger.disabled = disabled


def _failures(manager: PluginManager) -> dict[str, str]:
    return {state.name: state.failed for state in manager.states() if state.failed}
