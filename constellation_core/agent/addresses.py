"""Which address other nodes reach this one at."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from constellation_core.agent.interfaces import HostAddresses
from constellation_core.config import Address
from constellation_core.gossip.member import is_everywhere

# Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket sends nothing, it only
# asks the kernel which of our addresses it would use for the way out.
_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class AdvertiseError(Exception):
    """There is no address to tell others; the text says what to set."""


def resolve_bind(bind: Address) -> tuple[str, int]:
    """``bind`` with an IP literal for its host.

    Raises:
        AdvertiseError: when the host has no address.
    """
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AdvertiseError(f"cannot resolve {bind.host!r}: {error.strerror}") from None
    return str(found[0][4][0]), bind.port


def advertised(
    bind: tuple[str, int], setting: Address | None, own: HostAddresses
) -> tuple[str, int]:
    """The address to tell others: the setting, the bound one, or the best guess.

    The guess is the address that this host uses for its default route, else the first that other
    hosts could reach; never that of a container bridge. It holds until peers are asked.

    Raises:
        AdvertiseError: when bound to all addresses and none of them will do, or the setting stands
            for all of them.
    """
    if setting is not None:
        told = resolve_bind(setting)
        if is_everywhere(told[0]):
            raise AdvertiseError(
                f"[gossip] advertise {told[0]} is an address that nobody can reach; set it to the "
                "one that other nodes reach this one at, or leave it out"
            )
        return told
    if not is_everywhere(bind[0]):
        return bind[0], 0
    guesses = [*_on_default_route(bind), *own.far()]
    for host in guesses:
        if own.may_advertise(host) and (":" in bind[0] or ":" not in host):
            return host, 0
    raise AdvertiseError(
        "[gossip] bind is all addresses and this host has none that others could reach; "
        "set [gossip] advertise to the address that other nodes reach this one at"
    )


def _on_default_route(bind: tuple[str, int]) -> Iterator[str]:
    wanted = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    for family, probe in _PROBES:
        # A socket bound to :: takes IPv4 as well, one bound to 0.0.0.0 does not take IPv6.
        if family == wanted or wanted == socket.AF_INET6:
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as out:
                    out.connect((probe, 9))
                    yield str(out.getsockname()[0])
            except OSError:
                continue
