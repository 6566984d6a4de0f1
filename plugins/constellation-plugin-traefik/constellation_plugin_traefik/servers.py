"""From the instances of a service to the servers that Traefik balances over."""

from __future__ import annotations

import ipaddress
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
        result: str | None
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            result = None
        else:
            # A zone means something on one host only.
            zoned = isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None
            usable = not zoned and not parsed.is_unspecified and not parsed.is_multicast
            plain = f"[{parsed}]" if parsed.version == 6 else str(parsed)
            result = plain if usable else None
        if len(self.known) >= MOST_REMEMBERED:
            self.known.clear()
        self.known[address] = result
        return result


def weights_of(instances: Iterable[Instance], port: str, addresses: Addresses) -> dict[str, int]:
    """``HOST:PORT`` of the instances that take traffic, with their weights, in order of ids.

    Left out are instances that do not serve, have weight 0, lack the port, or state an address
    or a port number that cannot be used. Of two on one address and port the first counts.
    """
    # With `compile_part` the inner loop of a build from nothing: written for few calls.
    result: dict[str, int] = {}
    known = addresses.known
    for instance in instances:
        if instance.health < LEAST_SERVING or instance.weight <= 0:
            continue
        address = instance.address
        host = known[address] if address in known else addresses.in_url(address)
        number = instance.ports.get(port)
        if host and type(number) is int and 0 < number < 65_536:
            server = f"{host}:{number}"
            if server not in result:
                result[server] = instance.weight
    return result


def server_list(instances: Iterable[Instance], port: str, scheme: str, addresses: Addresses) -> str:
    """The elements of an HTTP load balancer's ``servers``, as JSON."""
    return ",".join(
        [
            f'{{"url":"{scheme}://{server}"}}'
            if weight == 1
            else f'{{"url":"{scheme}://{server}","weight":{min(weight, HEAVIEST)}}}'
            for server, weight in weights_of(instances, port, addresses).items()
        ]
    )
