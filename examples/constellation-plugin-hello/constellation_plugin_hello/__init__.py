"""An example plugin. Every part is optional: a plugin implements the hooks that it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from constellation_core import hookimpl

if TYPE_CHECKING:
    import typer
    from aiohttp import web
    from pydantic import BaseModel

    from constellation_core import (
        ApiRoute,
        Instance,
        Node,
        PluginContext,
        VerifyCheck,
    )


class HelloPlugin:
    """One object for the life of the agent, so that hooks can share state."""

    def __init__(self) -> None:
        self._heard: Counter[str] = Counter()
        self._context: PluginContext | None = None

    @hookimpl
    def config_model(self) -> type[BaseModel]:
        # Imported here, so that `constellation --help` does not pay for pydantic.
        from constellation_plugin_hello.config import HelloConfig

        return HelloConfig

    @hookimpl
    def register_commands(self, cli: typer.Typer) -> None:
        from constellation_plugin_hello.command import hello

        cli.command()(hello)

    @hookimpl
    def api_routes(self, context: PluginContext) -> Iterable[ApiRoute]:
        from aiohttp import web

        from constellation_core import ApiRoute

        async def greet(_request: web.Request) -> web.Response:
            return web.json_response(
                {
                    "greeting": context.config.greeting,
                    "node": context.node.name,
                    "nodes": len(context.catalog.nodes()),
                    "heard": dict(self._heard),
                }
            )

        return [ApiRoute("GET", "/api/hello", greet, summary="A greeting")]

    @hookimpl
    def verify_checks(self, context: PluginContext) -> Iterable[VerifyCheck]:
        from constellation_core import VerifyCheck, VerifyResult

        async def polite() -> VerifyResult:
            if context.config.greeting.strip():
                return VerifyResult("ok", f"greets with {context.config.greeting!r}")
            return VerifyResult("warn", "the greeting is empty", "set [plugins.hello] greeting")

        return [VerifyCheck("hello.greeting", polite)]

    @hookimpl
    async def start(self, context: PluginContext) -> None:
        self._context = context
        context.log.info("%s from %s", context.config.greeting, context.node.name)

    @hookimpl
    async def node_joined(self, node: Node) -> None:
        self._heard["node_joined"] += 1
        if self._context is not None:
            self._context.log.info("%s, %s", self._context.config.greeting, node.name)

    @hookimpl
    async def node_failed(self, node: Node) -> None:
        self._heard["node_failed"] += 1

    @hookimpl
    async def health_changed(self, instance: Instance, previous: Instance) -> None:
        self._heard["health_changed"] += 1
