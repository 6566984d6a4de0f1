"""Finds plugins by their entry points and imports those that are enabled.

Entry points are listed and loaded through stevedore. What a distribution says of itself
(version, summary, the core that it needs) is read from its metadata, so that a list of
plugins imports none of their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stevedore import ExtensionManager
from stevedore.named import NamedExtensionManager

from constellation_core import __version__
from constellation_core.plugins.distributions import PLUGINS, find_offers, requirement_on
from constellation_core.plugins.guard import explain

CORE_DISTRIBUTION = "constellation-core"


class PluginLoadError(Exception):
    """A plugin cannot be used; the text is the reason, for the operator."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that is installed, whether it is enabled or not.

    Attributes:
        name: the entry point's name, which is the plugin's.
        target: what the entry point names, ``MODULE`` or ``MODULE:ATTRIBUTE``.
        distribution: the distribution that brings it, for example ``constellation-plugin-dns``.
        version: that distribution's version.
        summary: that distribution's one line of description.
        requires_core: the versions of the core that it says it works with; ``""`` for any.
    """

    name: str
    target: str
    distribution: str
    version: str
    summary: str
    requires_core: str


def installed_plugins() -> list[Installed]:
    """All installed plugins, by name; a name that two distributions bring stands there twice."""
    found = [
        Installed(
            name=offer.name,
            target=offer.target,
            distribution=offer.distribution,
            version=offer.version,
            summary=offer.summary,
            requires_core=requirement_on(CORE_DISTRIBUTION, offer.requires),
        )
        for offer in find_offers(PLUGINS)
    ]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def load_plugin(name: str, installed: Sequence[Installed], *, require_core: bool = True) -> Any:
    """Import the plugin called ``name``; the result carries its hook functions.

    A class is instantiated without arguments; a module or any other object is taken as it is.

    Args:
        name: the plugin's name.
        installed: all that are.
        require_core: whether a plugin for another version of the core is refused.

    Raises:
        PluginLoadError: when it is not installed, is brought by two distributions, needs
            another core, or fails to import.
    """
    candidates = [plugin for plugin in installed if plugin.name == name]
    if not candidates:
        raise PluginLoadError(
            f"not installed: no distribution offers the plugin {name!r} (pip install "
            f"constellation-plugin-{name}, or take it out of [plugins] enabled)"
        )
    if len(candidates) > 1:
        owners = ", ".join(plugin.distribution for plugin in candidates)
        raise PluginLoadError(f"offered by several distributions ({owners}); uninstall all but one")
    if require_core:
        _require_core(candidates[0])
    plugin = _import(candidates[0])
    if isinstance(plugin, type):
        try:
            return plugin()
        except BaseException as error:
            raise PluginLoadError(f"{plugin.__name__}() raised {explain(error)}") from error
    return plugin


def _require_core(plugin: Installed) -> None:
    if not plugin.requires_core:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(plugin.requires_core).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        fits = False
    if not fits:
        raise PluginLoadError(
            f"{plugin.distribution} {plugin.version} needs {CORE_DISTRIBUTION} "
            f"{plugin.requires_core}, this is {__version__}"
        )


def _import(plugin: Installed) -> Any:
    failures: list[BaseException] = []

    def note(_manager: ExtensionManager[Any], _entry: object, error: BaseException) -> None:
        failures.append(error)

    try:
        manager: NamedExtensionManager[Any] = NamedExtensionManager(
            PLUGINS,
            [plugin.name],
            on_load_failure_callback=note,
            on_missing_entrypoints_callback=lambda _missing: None,
        )
        loaded = [extension.plugin for extension in manager]
    except BaseException as error:
        # stevedore lets AssertionError pass, and a module may call sys.exit when imported.
        failures.append(error)
        loaded = []
    if failures:
        raise PluginLoadError(
            f"importing {plugin.target!r} failed: {explain(failures[0])}"
        ) from failures[0]
    if not loaded:
        raise PluginLoadError(f"its entry point {plugin.target!r} could not be read")
    return loaded[0]
