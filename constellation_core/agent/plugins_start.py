"""Brings the enabled plugins into an agent: settings, contributions, start."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from constellation_core.agent.plugin_context import AgentParts, AgentPluginContext
from constellation_core.api.routing import ApiRoute, Handler
from constellation_core.api.server import ApiServer
from constellation_core.config import ConfigError, Loaded, validate_plugin_table
from constellation_core.peers import PeerSource
from constellation_core.plugins.guard import bounded, explain
from constellation_core.plugins.manager import PluginManager, answers_by_plugin
from constellation_core.verify import VerifyCheck
from constellation_core.workloads import LocalWorkloads

log = logging.getLogger("constellation.plugins")

START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0


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

    def make_contexts(self, configs: Mapping[str, Any], parts: AgentParts) -> None:
        """Give each plugin its context."""
        for name in self.manager.active:
            self.contexts[name] = AgentPluginContext(name, configs.get(name), parts)

    def contribute(self, api: ApiServer, workloads: LocalWorkloads) -> None:
        """Take what the plugins add; they have their contexts."""
        self._each("api_routes", lambda name, routes: api.add_routes(name, self._routes(routes)))
        self._each("verify_checks", self._add_checks)
        self._each("runtime_driver", lambda _, driver: workloads.add_driver(driver))
        self._each("peer_sources", lambda _, sources: self.sources.extend(_sources(sources)))

    async def start(self, on_started: Callable[[str], None]) -> None:
        """Await every plugin's ``start``: called in order, awaited all at the same time.

        So a plugin that hangs costs the others no more than the limit, however many hang.
        """
        names = list(self.manager.active)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._start(name, on_started), name=f"start:{name}")
        self._started.sort(key=names.index)

    async def _start(self, name: str, on_started: Callable[[str], None]) -> None:
        try:
            result = self.manager.call(name, "start", context=self.contexts[name])
            if inspect.isawaitable(result):
                await bounded(result, START_TIMEOUT)
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
                result = self.manager.call(name, "stop", context=self.contexts[name])
                if inspect.isawaitable(result):
                    await bounded(result, STOP_TIMEOUT)
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

    def _routes(self, routes: Iterable[ApiRoute]) -> list[ApiRoute]:
        listed = list(routes)
        for route in listed:
            if not isinstance(route, ApiRoute):
                raise TypeError(f"{_kind(route)} is not an ApiRoute")
        return [replace(route, handler=self._watched(route.handler)) for route in listed]

    def _watched(self, handler: Handler) -> Handler:
        stalls = self.manager.stalls

        async def watched(request: web.Request) -> web.StreamResponse:
            with stalls.watching():
                work = handler(request)
            return await stalls.watched(work)

        return watched if callable(handler) else handler

    def _add_checks(self, name: str, checks: Iterable[VerifyCheck]) -> None:
        listed = list(checks)
        for check in listed:
            if not isinstance(check, VerifyCheck):
                raise TypeError(f"{_kind(check)} is not a VerifyCheck")
            if not isinstance(check.name, str) or not callable(check.run):
                raise TypeError("a VerifyCheck has a name and an async function")
        self.checks[name] = listed


def _sources(sources: Iterable[PeerSource]) -> list[PeerSource]:
    listed = list(sources)
    for source in listed:
        if not isinstance(getattr(source, "name", None), str) or not callable(
            getattr(source, "peers", None)
        ):
            raise TypeError(f"{_kind(source)} is not a PeerSource: it needs name and peers()")
    return listed


def _kind(value: object) -> str:
    # Not its repr, which is a plugin's code too.
    return f"a value of type {type(value).__name__}"
