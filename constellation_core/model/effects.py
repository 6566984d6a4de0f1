"""What a change of each field costs: a new instance, or nothing that its users could notice."""

from __future__ import annotations

IN_PLACE = frozenset(
    {
        "check",
        "depends_on",
        "mode",
        "placement",
        "pull",
        "replicas",
        "resources.reserve_cpu",
        "resources.reserve_memory",
        "restart",
        "routes",
        "stop_grace",
        "tags",
        "update",
        "weight",
        "when_isolated",
    }
)
"""The fields of a service that its agent, the deployment or the proxy act upon: an instance that
runs is as the new definition wants it without being made anew."""

RECREATES = frozenset(
    {
        "command",
        "driver",
        "entrypoint",
        "env",
        "image",
        "init",
        "labels",
        "log",
        "name",
        "networks",
        "ports",
        "resources.limit_cpu",
        "resources.limit_memory",
        "resources.limit_pids",
        "secrets",
        "security",
        "stop_signal",
        "user",
        "volumes",
        "workdir",
    }
)
"""The fields that an instance is made from: when one of them changes, so must the instance."""
