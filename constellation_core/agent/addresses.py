"""Which address other nodes reach this one at."""

from __future__ import annotations

import ipaddress
import socket

from constellation_core.config import Address

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


def advertised(bind: tuple[str, int], setting: Address | None) -> tuple[str, int]:
    """The address to tell others: the setting, the bound one, or that of the default route.

    Raises:
        AdvertiseError: when bound to all addresses and there is no route to choose one by.
    """
    if setting is not None:
        return resolve_bind(setting)
    if not ipaddress.ip_address(bind[0].partition("%")[0]).is_unspecified:
        return bind[0], 0
    wanted = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    for family, probe in _PROBES:
        # A socket bound to :: takes IPv4 as well, one bound to 0.0.0.0 does not take IPv6.
        if family == wanted or wanted == socket.AF_INET6:
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as out:
                    out.connect((probe, 9))
                    return str(out.getsockname()[0]), 0
            except OSError:
                continue
    raise AdvertiseError(
        "[gossip] bind is all addresses and this host has no default route to choose one by; "
        "set [gossip] advertise to the address that other nodes reach this one at"
    )
