"""The runtime driver ``process``: services as supervised local processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from constellation_core import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from constellation_core import PluginContext, VerifyCheck
    from constellation_core.runtime import RuntimeDriver


@hookimpl
def config_model() -> type[BaseModel]:
    """The table ``[plugins.process]``."""
    from constellation_plugin_process.config import ProcessConfig

    return ProcessConfig


@hookimpl
def runtime_driver(context: PluginContext) -> RuntimeDriver:
    """The driver."""
    from constellation_plugin_process.driver import ProcessDriver

    return ProcessDriver(context.config, context.data_dir, context.clock, context.log)


@hookimpl
def verify_checks(context: PluginContext) -> Iterable[VerifyCheck]:
    """Whether everything that should run here does."""
    from constellation_plugin_process.verify import instances_check

    return [instances_check(context)]
