"""From the instances of a service to the servers that Traefik balances over."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from constellation_core.model.health import Health
from constellation_core.model.instance import Instance

MOST_REMEMBERED = 4096
HEAVIEST = 1_000_000
LEAST_SERVING = min(health for health in Health if health.serves)


@dataclass(slots=True)
class Addresses:
    """Addresses as they stand in a URL, remembered: a fleet has few of them.

    Attributes:
        known: what :meth:`in_url` answered, by address.
    """

    known: dict[str, str | None] = field(default_factory=dict)

    def in_url(self, address: str) -> str | None:
        """``address`` for a URL, an IPv6 one in brackets; ``None`` when it is no usable literal."""
        try:
            return self.known[address]
        except KeyError:
            pass
        result = _ipv6(address) if ":" in address else _ipv4(address)
        if len(self.known) >= MOST_REMEMBERED:
            self.known.clear()
        self.known[address] = result
        return result


def _ipv4(address: str) -> str | None:
    try:
        packed = socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        return None
    multicast = 224 <= packed[0] < 240
    return None if multicast or not any(packed) else address


def _ipv6(address: str) -> str | None:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return None
    # A zone means something on one host only.
    unusable = parsed.scope_id is not None or parsed.is_unspecified or parsed.is_multicast
    return None if unusable else f"[{parsed}]"


def weights_of(instances: Iterable[Instance], port: str, addresses: Addresses) -> dict[str, int]:
    """``HOST:PORT`` of the instances that take traffic, with their weights, in order of ids.

    Left out are instances that do not serve, have weight 0, lack the port, or state an address
    or a port number that cannot be used. Of two on one address and port the first counts.
    """
    # With `compile_part` the inner loop of a build from nothing: written for few calls.
    result: dict[str, int] = {}
    known = addresses.known
    for instance in instances:
        weight = instance.weight
        if weight > 0 and instance.health >= LEAST_SERVING:
            host = known.get(instance.address) or addresses.in_url(instance.address)
            number = instance.ports.get(port)
            if host and type(number) is int and 0 < number < 65_536:
                server = f"{host}:{number}"
                if server not in result:
                    result[server] = weight
    return result


def server_list(
    instances: Iterable[Instance], port: str, opening: str, addresses: Addresses
) -> str:
    """The elements of an HTTP load balancer's ``servers``, as JSON.

    Args:
        instances: of one service.
        port: its name.
        opening: what every element begins with, up to its URL's address.
        addresses: remembered ones.
    """
    weights = weights_of(instances, port, addresses)
    if not weights:
        return ""
    # No weight is below 1, so here all of them are 1.
    if sum(weights.values()) == len(weights):
        between = f'"}},{opening}'
        return f'{opening}{between.join(weights)}"}}'
    return ",".join(
        [
            f'{opening}{server}"}}'
            if weight == 1
            else f'{opening}{server}","weight":{min(weight, HEAVIEST)}}}'
            for server, weight in weights.items()
        ]
    )
