"""The list of plugins that ``constellation plugins`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from constellation_core.plugins.discovery import Installed, installed_plugins


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plugin, installed or enabled or both.

    Attributes:
        name: the plugin's name.
        version: of the distribution that brings it; ``""`` when not installed.
        state: ``enabled`` (in use), ``available`` (installed only), ``failed``.
        reason: why it failed, or what changes at the agent's next start; else ``""``.
        summary: one line of its distribution's description.
        distribution: the distribution that brings it.
        target: what its entry point names.
        requires_core: the versions of the core that it works with; ``""`` for any.
    """

    name: str
    version: str
    state: Literal["enabled", "available", "failed"]
    reason: str
    summary: str
    distribution: str
    target: str
    requires_core: str


def list_plugins(
    enabled: Sequence[str],
    failures: Mapping[str, str],
    installed: Sequence[Installed] | None = None,
) -> list[PluginInfo]:
    """Merge what is installed, what is enabled, and what failed.

    Args:
        enabled: names from ``[plugins] enabled``.
        failures: reasons by plugin, from a running agent or from a trial load.
        installed: by default, what the environment has. No plugin's code is imported.
    """
    found = installed_plugins() if installed is None else installed
    known = {plugin.name: plugin for plugin in found}
    result = []
    for name in sorted(known.keys() | set(enabled)):
        plugin = known.get(name, Installed(name, "", "", "", "", ""))
        state: Literal["enabled", "available", "failed"] = "available"
        if name in failures:
            state = "failed"
        elif name in enabled:
            state = "enabled"
        result.append(
            PluginInfo(
                name=name,
                version=plugin.version,
                state=state,
                reason=failures.get(name, ""),
                summary=plugin.summary,
                distribution=plugin.distribution,
                target=plugin.target,
                requires_core=plugin.requires_core,
            )
        )
    return result


def with_changes(
    running: Sequence[Mapping[str, Any]],
    enabled: Sequence[str],
    installed: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """What a running agent says of its plugins, with what was changed since it started.

    Args:
        running: its list, as documents.
        enabled: names from ``[plugins] enabled``, as the settings are now.
        installed: what is installed now, in the same form.
    """
    known = {each["name"] for each in running}
    rows = [dict(each) for each in running]
    rows += [dict(each) for each in installed if each["name"] not in known]
    for row in rows:
        if row["state"] == "available" and row["name"] in enabled:
            row["reason"] = "enabled in the settings; in use from the agent's next start"
        elif row["state"] == "enabled" and row["name"] not in enabled:
            row["reason"] = "no longer enabled in the settings; in use until the agent's next start"
    return sorted(rows, key=lambda row: str(row["name"]))
