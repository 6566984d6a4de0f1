"""Checks the health of this node's instances and restarts the sick ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from constellation_core import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from constellation_core import PluginContext, VerifyCheck


@hookimpl
def config_model() -> type[BaseModel]:
    """The table ``[plugins.monitor]``."""
    from constellation_plugin_monitor.config import MonitorConfig

    return MonitorConfig


@hookimpl
def verify_checks(context: PluginContext) -> Iterable[VerifyCheck]:
    """Whether the instances of this node pass their checks."""
    from constellation_plugin_monitor.verify import checks_check

    return [checks_check(context)]


@hookimpl
def start(context: PluginContext) -> None:
    """Begin to check."""
    from constellation_plugin_monitor.runner import Monitor

    monitor = Monitor(context, context.config)
    context.spawn("checks", monitor.run)
