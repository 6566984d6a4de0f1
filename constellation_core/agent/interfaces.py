"""This host's addresses, and which of them other hosts cannot be on."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import ifaddr

_BRIDGES = re.compile(
    r"docker\d|docker_gwbridge|br-|veth|virbr|vnet|lxc|lxd|podman|cni|flannel|cali|kube|vmnet"
)
"""Names that container and virtual machine runtimes give to networks that end at this host."""


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address of this host.

    Attributes:
        host: an IP literal, without a zone.
        interface: the network interface that has it.
    """

    host: str
    interface: str

    @property
    def inside_only(self) -> bool:
        """Whether it belongs to a bridge for containers or virtual machines of this host."""
        return _BRIDGES.match(self.interface) is not None

    @property
    def far(self) -> bool:
        """Whether other hosts could reach it: not loopback, not link-local, no bridge."""
        address = ipaddress.ip_address(self.host)
        return not (address.is_loopback or address.is_link_local or self.inside_only)


class HostAddresses:
    """The addresses that this host has now.

    Args:
        found: for tests; by default the operating system is asked.
    """

    def __init__(self, found: Iterable[HostAddress] | None = None) -> None:
        self._found = tuple(_system() if found is None else found)

    def may_advertise(self, host: str) -> bool:
        """Whether other nodes may be told this address: it is ours, and on no container bridge."""
        return any(each.host == host and not each.inside_only for each in self._found)

    def far(self) -> list[str]:
        """Addresses that other hosts could reach."""
        return [each.host for each in self._found if each.far]


def _system() -> Iterable[HostAddress]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            yield HostAddress(host.partition("%")[0], adapter.name)
