"""Constellation: an orchestrator for fleets of hosts without a control plane.

The names below are what service files and plugins use. They are loaded when first asked
for, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constellation_core.api.routing import ApiRoute
    from constellation_core.consensus.backend import ConsensusBackend
    from constellation_core.consensus.interface import ConsensusError, Unavailable, Unknown
    from constellation_core.consensus.leases import Lease, LeaseLost, LeaseView
    from constellation_core.consensus.state import Entry
    from constellation_core.consensus.store import CompareFailed, StoreFull
    from constellation_core.consensus.watching import Changes
    from constellation_core.hookspecs import hookimpl
    from constellation_core.model.check import DriverCheck, ExecCheck, HTTPCheck, TCPCheck
    from constellation_core.model.health import Health
    from constellation_core.model.instance import Instance
    from constellation_core.model.jobs import Dependency, InitJob
    from constellation_core.model.logs import LogOptions
    from constellation_core.model.networks import Network
    from constellation_core.model.node import Node, NodeState
    from constellation_core.model.placement import Placement, Preference
    from constellation_core.model.port import Port
    from constellation_core.model.published import PublishedService
    from constellation_core.model.resources import Resources
    from constellation_core.model.route import TLS, Route, Sticky, TCPRoute
    from constellation_core.model.secrets import Secret
    from constellation_core.model.security import Security
    from constellation_core.model.service import Restart, Service
    from constellation_core.model.update import UpdatePolicy
    from constellation_core.model.volumes import Bind, Tmpfs, Volume
    from constellation_core.plugins.context import PluginContext
    from constellation_core.verify import VerifyCheck, VerifyResult

__version__ = "0.1.0"

_HOME = {
    "ApiRoute": "api.routing",
    "Changes": "consensus.watching",
    "CompareFailed": "consensus.store",
    "ConsensusBackend": "consensus.backend",
    "ConsensusError": "consensus.interface",
    "Bind": "model.volumes",
    "Dependency": "model.jobs",
    "DriverCheck": "model.check",
    "Entry": "consensus.state",
    "ExecCheck": "model.check",
    "HTTPCheck": "model.check",
    "Health": "model.health",
    "InitJob": "model.jobs",
    "Instance": "model.instance",
    "Lease": "consensus.leases",
    "LeaseLost": "consensus.leases",
    "LeaseView": "consensus.leases",
    "LogOptions": "model.logs",
    "Network": "model.networks",
    "Node": "model.node",
    "NodeState": "model.node",
    "Placement": "model.placement",
    "PluginContext": "plugins.context",
    "Port": "model.port",
    "Preference": "model.placement",
    "PublishedService": "model.published",
    "Resources": "model.resources",
    "Restart": "model.service",
    "Route": "model.route",
    "Secret": "model.secrets",
    "Security": "model.security",
    "Service": "model.service",
    "Sticky": "model.route",
    "StoreFull": "consensus.store",
    "TCPCheck": "model.check",
    "TCPRoute": "model.route",
    "TLS": "model.route",
    "Unavailable": "consensus.interface",
    "Unknown": "consensus.interface",
    "Tmpfs": "model.volumes",
    "UpdatePolicy": "model.update",
    "VerifyCheck": "verify",
    "VerifyResult": "verify",
    "Volume": "model.volumes",
    "hookimpl": "hookspecs",
}

__all__ = [
    "TLS",
    "ApiRoute",
    "Bind",
    "Changes",
    "CompareFailed",
    "ConsensusBackend",
    "ConsensusError",
    "Dependency",
    "DriverCheck",
    "Entry",
    "ExecCheck",
    "HTTPCheck",
    "Health",
    "InitJob",
    "Instance",
    "Lease",
    "LeaseLost",
    "LeaseView",
    "LogOptions",
    "Network",
    "Node",
    "NodeState",
    "Placement",
    "PluginContext",
    "Port",
    "Preference",
    "PublishedService",
    "Resources",
    "Restart",
    "Route",
    "Secret",
    "Security",
    "Service",
    "Sticky",
    "StoreFull",
    "TCPCheck",
    "TCPRoute",
    "Tmpfs",
    "Unavailable",
    "Unknown",
    "UpdatePolicy",
    "VerifyCheck",
    "VerifyResult",
    "Volume",
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
