"""One running copy of a service, as every node's catalog knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from constellation_core.model.health import Health


@dataclass(frozen=True, slots=True)
class Instance:
    """One copy of a service on one node.

    Attributes:
        id: unique in the cluster: ``SERVICE.NODE`` or ``SERVICE.NODE.N``.
        service: the service's name.
        node: the name of the node that owns it.
        address: where its ports listen, as other nodes reach it: an IP literal.
        ports: port name to number, for example ``{"http": 8080}``.
        health: the lesser of the owner's word and of the owner's membership state.
        weight: its share of traffic among its peers; 0 takes none.
        tags: free words of the operator.
        version: a hash of the definition that it runs; changes when the definition does.
        reason: why it is not healthy, in a few words; ``""`` when it is.
        restarts: how often it was restarted since its agent knows it.
    """

    id: str
    service: str
    node: str
    address: str
    ports: Mapping[str, int] = field(default_factory=dict)
    health: Health = Health.STARTING
    weight: int = 1
    tags: tuple[str, ...] = ()
    version: str = ""
    reason: str = ""
    restarts: int = 0
