"""What an agent with this plugin does: answers Traefik's polls, and checks the answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from constellation_core import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from constellation_core import ApiRoute, PluginContext, VerifyCheck
    from constellation_plugin_traefik.provider import Provider


class TraefikPlugin:
    """The hooks; one object for each agent."""

    def __init__(self) -> None:
        self._provider: Provider | None = None

    @hookimpl
    def config_model(self) -> type[BaseModel]:
        """The table ``[plugins.traefik]``."""
        from constellation_plugin_traefik.config import TraefikConfig

        return TraefikConfig

    @hookimpl
    def api_routes(self, context: PluginContext) -> Iterable[ApiRoute]:
        """``/api/traefik`` and the parts of the document."""
        from constellation_plugin_traefik.routes import provider_routes

        return provider_routes(self._of(context))

    @hookimpl
    def verify_checks(self, context: PluginContext) -> Iterable[VerifyCheck]:
        """Whether the routes are right, and whether Traefik has taken them."""
        from constellation_plugin_traefik.verify import document_check, traefik_check

        return [document_check(self._of(context)), traefik_check(self._of(context))]

    def _of(self, context: PluginContext) -> Provider:
        if self._provider is None:
            from constellation_plugin_traefik.provider import Provider

            self._provider = Provider(
                context.catalog, context.config, context.log, context.clock, context.node.name
            )
        return self._provider
