"""The networks that instances are attached to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BeforeValidator, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.names import Label
from constellation_core.model.strict import STRICT, Words
from constellation_core.model.words import did_you_mean, listed, nearest

HOST_NETWORK = "host"
"""The node's own network, without isolation: an instance in it is in no other one."""

_INTERNAL = {"backend": True, "publicnet": False, "warp-nat-net": False, HOST_NETWORK: False}


@dataclass(frozen=True, config=STRICT)
class Network:
    """A network of one's own, on each node that runs an instance of a service in it.

    Instances on one node reach each other in it by the names of their services. It does not
    reach other nodes: these are reached at their published ports.

    Attributes:
        name: the same name is the same network, also in another service.
        internal: whether it leads nowhere else: no way out, and none in.
    """

    name: Label
    _: KW_ONLY
    internal: bool = False

    @model_validator(mode="after")
    def _well_known_stays_so(self) -> Self:
        if _INTERNAL.get(self.name, self.internal) != self.internal:
            raise ValueError(
                f"{self.name!r} is one of Constellation's own networks and "
                f"{'leads nowhere else' if not self.internal else 'leads outside'}; write "
                f"networks=({self.name!r},), or give yours another name"
            )
        return self


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {name: Network(name, internal=internal) for name, internal in _INTERNAL.items()}
)
"""Those that need no definition: ``backend`` (internal), ``publicnet`` (behind the proxy),
``warp-nat-net`` (anonymous egress) and ``host`` (the node's own)."""


def _as_network(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value in NETWORKS:
        return NETWORKS[value]
    hint = did_you_mean(nearest(value, NETWORKS)) or f"; there is {listed(NETWORKS, 'and')}."
    raise ValueError(f"unknown network {value!r}{hint} One of your own is Network({value!r})")


# Written as a name or as a value, always kept as a value.
if TYPE_CHECKING:
    AnyNetwork = Network | str
else:
    AnyNetwork = Annotated[
        Network, BeforeValidator(_as_network), Words("name of a network, or [`Network`](#network)")
    ]


def network_problems(networks: Sequence[Network]) -> Iterator[str]:
    """Why an instance cannot be in all of these."""
    names = [network.name for network in networks]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"networks: {name!r} stands there twice"
    if HOST_NETWORK in names and len(set(names)) > 1:
        yield "networks: who is in the node's own network, 'host', can be in no other one"
