"""What an agent with this plugin does: it agrees with the others through etcd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from constellation_core import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from constellation_core import PluginContext, VerifyCheck
    from constellation_core.consensus.backend import ConsensusBackend
    from constellation_plugin_etcd.backend import EtcdBackend


class EtcdPlugin:
    """The hooks; one object for each agent."""

    def __init__(self) -> None:
        self._backend: EtcdBackend | None = None

    @hookimpl
    def config_model(self) -> type[BaseModel]:
        """The table ``[plugins.etcd]``."""
        from constellation_plugin_etcd.config import EtcdConfig

        return EtcdConfig

    @hookimpl
    def consensus_backend(self, context: PluginContext) -> ConsensusBackend:
        """etcd instead of the built-in voters."""
        return self._of(context)

    @hookimpl
    def verify_checks(self, context: PluginContext) -> Iterable[VerifyCheck]:
        """Whether etcd answers, and can lose a member."""
        from constellation_plugin_etcd.verify import cluster_check

        return [cluster_check(self._of(context))]

    def _of(self, context: PluginContext) -> EtcdBackend:
        if self._backend is None:
            from constellation_plugin_etcd.making import make_backend

            self._backend = make_backend(context)
        return self._backend
