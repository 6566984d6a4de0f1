"""Settings: agent.toml and the environment, typed, with every error in its place.

The names below are loaded when first asked for: the command line asks for the list of plugins
before it knows whether it needs the models (which import pydantic) at all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constellation_core.config.addresses import Address
    from constellation_core.config.checking import Checked, check_config
    from constellation_core.config.editing import Edited, disable_plugin, enable_plugin
    from constellation_core.config.layers import Origin
    from constellation_core.config.loading import Loaded, load
    from constellation_core.config.lookup import find_config, peek_enabled_plugins
    from constellation_core.config.plugin_tables import PluginTable, validate_plugin_table
    from constellation_core.config.problems import ConfigError, Problem
    from constellation_core.config.scaffold import Initialised, initialise
    from constellation_core.config.secrets import (
        ClusterKey,
        FileSecrets,
        SecretError,
        read_secret_file,
    )
    from constellation_core.config.settings import (
        AgentSettings,
        ApiSettings,
        CatalogSettings,
        ConsensusSettings,
        GossipSettings,
        PluginsSettings,
        Settings,
    )
    from constellation_core.config.show import Row, rows

_HOME = {
    "Address": "addresses",
    "AgentSettings": "settings",
    "ApiSettings": "settings",
    "CatalogSettings": "settings",
    "Checked": "checking",
    "ClusterKey": "secrets",
    "ConfigError": "problems",
    "ConsensusSettings": "settings",
    "Edited": "editing",
    "FileSecrets": "secrets",
    "GossipSettings": "settings",
    "Initialised": "scaffold",
    "Loaded": "loading",
    "Origin": "layers",
    "PluginTable": "plugin_tables",
    "PluginsSettings": "settings",
    "Problem": "problems",
    "Row": "show",
    "SecretError": "secrets",
    "Settings": "settings",
    "check_config": "checking",
    "disable_plugin": "editing",
    "enable_plugin": "editing",
    "find_config": "lookup",
    "initialise": "scaffold",
    "load": "loading",
    "peek_enabled_plugins": "lookup",
    "read_secret_file": "secrets",
    "rows": "show",
    "validate_plugin_table": "plugin_tables",
}

__all__ = [
    "Address",
    "AgentSettings",
    "ApiSettings",
    "CatalogSettings",
    "Checked",
    "ClusterKey",
    "ConfigError",
    "ConsensusSettings",
    "Edited",
    "FileSecrets",
    "GossipSettings",
    "Initialised",
    "Loaded",
    "Origin",
    "PluginTable",
    "PluginsSettings",
    "Problem",
    "Row",
    "SecretError",
    "Settings",
    "check_config",
    "disable_plugin",
    "enable_plugin",
    "find_config",
    "initialise",
    "load",
    "peek_enabled_plugins",
    "read_secret_file",
    "rows",
    "validate_plugin_table",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
