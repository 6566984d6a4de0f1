"""A node of the fleet, as the membership knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class NodeState(StrEnum):
    """What the membership says of a node (memberlist's states)."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Node:
    """One agent's host.

    Attributes:
        name: unique in the cluster.
        address: gossip address, an IPv4 or IPv6 literal.
        port: gossip port, UDP and TCP.
        state: what this agent believes of it now.
        incarnation: memberlist's incarnation number of that belief.
        meta: small facts the node tells of itself: ``version``, ``region``, ``api`` ...
    """

    name: str
    address: str
    port: int
    state: NodeState = NodeState.ALIVE
    incarnation: int = 0
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def region(self) -> str:
        """The region the node says it is in, or ``""``."""
        return self.meta.get("region", "")
