"""What the command line needs of plugins, without an agent: their commands and settings."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from constellation_core.plugins.distributions import PLUGINS, Offer

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from constellation_core.plugins.manager import PluginManager


def load_command_apps(
    enabled: Sequence[str], offers: Sequence[Offer]
) -> tuple[list[tuple[str, typer.Typer]], dict[str, str]]:
    """Import the enabled plugins and let each fill a Typer app of its own.

    Args:
        enabled: names of plugins, in order.
        offers: what is installed.

    Returns:
        The apps of the plugins that add commands, by plugin, in order; and the reasons of
        those that failed, by plugin.
    """
    wanted = _with_commands(enabled, offers)
    if not wanted:
        return [], {}
    import typer

    # Whether a plugin fits this core is the agent's question; here it would slow every command.
    with _quiet_manager(wanted, require_core=False) as manager:
        apps = []
        for name in list(manager.active):
            if manager.implements(name, "register_commands"):
                app = typer.Typer()
                manager.contribute(name, "register_commands", cli=app)
                if name in manager.active:
                    apps.append((name, app))
    return apps, _failures(manager)


def _with_commands(enabled: Sequence[str], offers: Sequence[Offer]) -> list[str]:
    """Those of the plugins that have the hook ``register_commands``.

    To ask them costs no more than their import. What it takes to call a hook is imported only
    when there is one: most plugins add no commands, and every ``--help`` comes through here.
    """
    targets = {offer.name: offer.target for offer in offers if offer.group == PLUGINS}
    return [name for name in enabled if name in targets and _has_commands(targets[name])]


def _has_commands(target: str) -> bool:
    module, _, attribute = target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
        return hasattr(found, "register_commands")
    except (Exception, SystemExit):
        # `constellation plugins list` tells why; here it only means that there is no command.
        return False


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
            if name not in manager.active:
                continue
            if model is not None and not _is_model(model):
                manager.fail(name, f"config_model gave no model, but a {type(model).__name__}")
                continue
            models[name] = model
    return models, _failures(manager)


@contextmanager
def _quiet_manager(enabled: Sequence[str], *, require_core: bool = True) -> Iterator[PluginManager]:
    # The caller tells the user what failed; the log's own word would be the second.
    from constellation_core.plugins.manager import PluginManager

    logger = logging.getLogger("constellation.plugins")
    disabled, logger.disabled = logger.disabled, True
    try:
        manager = PluginManager()
        manager.load(enabled, require_core=require_core)
        yield manager
    finally:
        logger.disabled = disabled


def _is_model(value: object) -> bool:
    from pydantic import BaseModel

    return isinstance(value, type) and issubclass(value, BaseModel)


def _failures(manager: PluginManager) -> dict[str, str]:
    return {state.name: state.failed for state in manager.states() if state.failed}
