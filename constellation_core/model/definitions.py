"""All that a services file is written with, by name: for messages, documents and tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from constellation_core.model.check import DriverCheck, ExecCheck, HTTPCheck, TCPCheck
from constellation_core.model.jobs import Dependency, InitJob
from constellation_core.model.logs import LogOptions
from constellation_core.model.networks import Network
from constellation_core.model.placement import Placement, Preference
from constellation_core.model.port import Port
from constellation_core.model.resources import Resources
from constellation_core.model.route import TLS, Route, Sticky, TCPRoute
from constellation_core.model.secrets import Secret
from constellation_core.model.security import Security
from constellation_core.model.service import Restart, Service
from constellation_core.model.update import UpdatePolicy
from constellation_core.model.volumes import Bind, Tmpfs, Volume

DEFINITIONS: Mapping[str, type] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            Service,
            Port,
            Network,
            Volume,
            Bind,
            Tmpfs,
            Secret,
            Route,
            TCPRoute,
            TLS,
            Sticky,
            HTTPCheck,
            TCPCheck,
            ExecCheck,
            DriverCheck,
            Restart,
            Placement,
            Preference,
            Resources,
            Security,
            UpdatePolicy,
            Dependency,
            InitJob,
            LogOptions,
        )
    }
)
