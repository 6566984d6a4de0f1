"""Brings the enabled plugins into an agent: settings, contributions, start."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from constellation_core.agent.plugin_context import AgentParts, AgentPluginContext
from constellation_core.api.routing import ApiRoute
from constellation_core.api.server import ApiServer
from constellation_core.config import ConfigError, Loaded, validate_plugin_table
from constellation_core.peers import PeerSource
from constellation_core.plugins.discovery import explain
from constellation_core.plugins.manager import PluginManager, answers_by_plugin
from constellation_core.verify import VerifyCheck
from constellation_core.workloads import LocalWorkloads

log = logging.getLogger("constellation.plugins")

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0


class PluginSet:
    """The enabled plugins of one agent, with their contexts and contributions.

    Attributes:
        contexts: by plugin, in the order of ``enabled``.
        checks: what ``constellation verify`` runs, by plugin.
        sources: where other nodes may be found.
    """

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager
        self.contexts: dict[str, AgentPluginContext] = {}
        self.checks: dict[str, list[VerifyCheck]] = {}
        self.sources: list[PeerSource] = []
        self._started: list[str] = []

    def configure(self, loaded: Loaded) -> Mapping[str, Any]:
        """Validate every plugin's table; a bad one makes its plugin failed."""
        configs: dict[str, Any] = {}
        for name in list(self.manager.active):
            model = self.manager.contribute(name, "config_model")
            if name not in self.manager.active:
                continue
            try:
                configs[name] = validate_plugin_table(name, model, loaded).config
            except ConfigError as error:
                self.manager.fail(name, "; ".join(str(each) for each in error.problems))
            except Exception as error:  # noqa: BLE001 - what config_model gave may be anything
                self.manager.fail(name, f"config_model gave no usable model: {explain(error)}")
        return configs

    def contribute(
        self,
        configs: Mapping[str, Any],
        parts: AgentParts,
        api: ApiServer,
        workloads: LocalWorkloads,
    ) -> None:
        """Make the contexts and take what the plugins add."""
        for name in self.manager.active:
            self.contexts[name] = AgentPluginContext(name, configs.get(name), parts)
        self._each("api_routes", lambda name, routes: api.add_routes(name, _routes(routes)))
        self._each("verify_checks", self._add_checks)
        self._each("runtime_driver", lambda _, driver: workloads.add_driver(driver))
        self._each("peer_sources", lambda _, sources: self.sources.extend(sources))

    async def start(self, on_started: Callable[[str], None]) -> None:
        """Await every plugin's ``start``, one after the other."""
        for name in list(self.manager.active):
            try:
                async with asyncio.timeout(_START_TIMEOUT):
                    result = self.manager.call(name, "start", context=self.contexts[name])
                    if inspect.isawaitable(result):
                        await result
            except TimeoutError:
                self.manager.fail(name, f"start took longer than {_START_TIMEOUT:g} s")
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                self.manager.fail(name, f"start raised {explain(error)}")
            else:
                if name in self.manager.active:
                    self._started.append(name)
                    on_started(name)

    async def stop(self) -> None:
        """Await every started plugin's ``stop``, in reverse order."""
        for name in reversed(self._started):
            try:
                async with asyncio.timeout(_STOP_TIMEOUT):
                    result = self.manager.call(name, "stop", context=self.contexts[name])
                    if inspect.isawaitable(result):
                        await result
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                log.warning("plugin %s: stop raised %s", name, explain(error))

    def _each(self, hook: str, use: Callable[[str, Any], object]) -> None:
        answers = answers_by_plugin(
            self.manager, hook, lambda name: {"context": self.contexts[name]}
        )
        for name, answer in answers.items():
            if name not in self.manager.active:
                continue
            try:
                use(name, answer)
            except Exception as error:  # noqa: BLE001 - a plugin may return anything
                self.manager.fail(name, f"what {hook} returned cannot be used: {explain(error)}")

    def _add_checks(self, name: str, checks: Iterable[VerifyCheck]) -> None:
        listed = list(checks)
        for check in listed:
            if not isinstance(check, VerifyCheck):
                raise TypeError(f"{check!r} is not a VerifyCheck")
        self.checks[name] = listed


def _routes(routes: Iterable[ApiRoute]) -> list[ApiRoute]:
    listed = list(routes)
    for route in listed:
        if not isinstance(route, ApiRoute):
            raise TypeError(f"{route!r} is not an ApiRoute")
    return listed
