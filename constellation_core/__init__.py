"""Constellation: an orchestrator for fleets of hosts without a control plane.

The names below are what service files and plugins use. They are loaded when first asked
for, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constellation_core.api.routing import ApiRoute
    from constellation_core.hookspecs import hookimpl
    from constellation_core.model.check import DriverCheck, ExecCheck, HTTPCheck, TCPCheck
    from constellation_core.model.health import Health
    from constellation_core.model.instance import Instance
    from constellation_core.model.node import Node, NodeState
    from constellation_core.model.port import Port
    from constellation_core.model.published import PublishedService
    from constellation_core.model.route import TLS, Route, Sticky, TCPRoute
    from constellation_core.model.service import Restart, Service
    from constellation_core.plugins.context import PluginContext
    from constellation_core.verify import VerifyCheck, VerifyResult

__version__ = "0.1.0"

_HOME = {
    "ApiRoute": "api.routing",
    "DriverCheck": "model.check",
    "ExecCheck": "model.check",
    "HTTPCheck": "model.check",
    "Health": "model.health",
    "Instance": "model.instance",
    "Node": "model.node",
    "NodeState": "model.node",
    "PluginContext": "plugins.context",
    "Port": "model.port",
    "PublishedService": "model.published",
    "Restart": "model.service",
    "Route": "model.route",
    "Service": "model.service",
    "Sticky": "model.route",
    "TCPCheck": "model.check",
    "TCPRoute": "model.route",
    "TLS": "model.route",
    "VerifyCheck": "verify",
    "VerifyResult": "verify",
    "hookimpl": "hookspecs",
}

__all__ = [
    "TLS",
    "ApiRoute",
    "DriverCheck",
    "ExecCheck",
    "HTTPCheck",
    "Health",
    "Instance",
    "Node",
    "NodeState",
    "PluginContext",
    "Port",
    "PublishedService",
    "Restart",
    "Route",
    "Service",
    "Sticky",
    "TCPCheck",
    "TCPRoute",
    "VerifyCheck",
    "VerifyResult",
    "__version__",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
