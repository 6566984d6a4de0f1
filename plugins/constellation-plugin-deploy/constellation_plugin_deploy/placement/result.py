"""What placement answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from constellation_core import Service
from constellation_plugin_deploy.placement.facts import Fleet


class Constraint(StrEnum):
    """What speaks against an instance on a node; the words are those of the definition."""

    NODE = "node"
    """The node takes no instances at all."""
    NODES = "placement.nodes"
    REGIONS = "placement.regions"
    TAGS = "placement.tags"
    WITHOUT_TAGS = "placement.without_tags"
    APART_FROM = "placement.apart_from"
    MAX_PER_NODE = "placement.max_per_node"
    MODE = "mode"
    """It runs one, and a node never runs two in this mode."""
    PORTS = "ports"
    """A fixed port of the node is taken."""
    CPU = "resources.reserve_cpu"
    MEMORY = "resources.reserve_memory"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node gets no instance, or no further one.

    Attributes:
        constraint: what it is by.
        reason: the same for people, as the rest of a sentence about the node.
    """

    constraint: Constraint
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceAssignment:
    """Where the instances of one service run.

    Attributes:
        service: the definition.
        wanted: how many there are to be.
        instances: how many on each node; nodes that run none are not in it.
        kept: how many of these are where they were.
        refused: nodes that could not be given one more, of those that were tried.
    """

    service: Service
    wanted: int
    instances: Mapping[str, int]
    kept: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    @property
    def placed(self) -> int:
        """How many instances have a node."""
        return sum(self.instances.values())

    @property
    def missing(self) -> int:
        """How many have none."""
        return self.wanted - self.placed


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where everything runs.

    Attributes:
        services: by name, in the order in which they were placed.
        fleet: the nodes that there were to choose from.
    """

    services: Mapping[str, ServiceAssignment]
    fleet: Fleet

    def share(self, node: str) -> Mapping[str, int]:
        """How many instances of which services ``node`` runs."""
        return {
            name: count
            for name, each in self.services.items()
            if (count := each.instances.get(node, 0))
        }

    def instances(self) -> Mapping[str, Mapping[str, int]]:
        """Nodes and numbers for each service: what ``place`` takes as ``current``."""
        return {name: each.instances for name, each in self.services.items()}
