"""Addresses in settings: ``HOST:PORT``, with brackets around IPv6."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port.

    Attributes:
        host: an IPv4 or IPv6 literal (without brackets), or a host name.
        port: 0 to 65535; 0 lets the system choose one, where a setting allows it.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an IP address, or ``None`` for a name."""
        return _ip(self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it. A name is not looked up, and counts as no."""
        return self.ip is not None and self.ip.is_loopback

    @property
    def is_unspecified(self) -> bool:
        """Whether it stands for all addresses of this host (``0.0.0.0``, ``::``)."""
        return self.ip is not None and self.ip.is_unspecified


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``.

    Raises:
        ValueError: with what was expected and what is wrong with ``text``.
    """
    expected = "expected HOST:PORT, such as 127.0.0.1:7946, [::1]:7946 or node-b:7946"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or _ip(host) is None or ":" not in host:
            raise ValueError(f"{expected}; between the brackets must be an IPv6 address")
        if not rest.startswith(":"):
            raise ValueError(f"{expected}; the port is missing")
        return Address(host, _port(rest[1:], expected))
    if text.count(":") > 1:
        hint = f"; put the IPv6 address in brackets: [{text.rpartition(':')[0]}]:PORT"
        raise ValueError(f"{expected}{hint}")
    host, colon, port = text.partition(":")
    if not colon:
        raise ValueError(f"{expected}; the port is missing")
    if not host:
        raise ValueError(f"{expected}; the host is missing (all addresses: 0.0.0.0:{port})")
    if not _is_host(host):
        raise ValueError(f"{expected}; {host!r} is neither a host name nor an IP address")
    return Address(host, _port(port, expected))


def _port(text: str, expected: str) -> int:
    # isdecimal alone lets through digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65_535):
        raise ValueError(f"{expected}; the port must be a number from 0 to 65535")
    return int(text)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    if _ip(host) is not None:
        return True
    labels = host.removesuffix(".").split(".")
    # What ends in a number would be an IPv4 address (WHATWG URL, "ends in a number").
    named = not labels[-1].isdecimal()
    return named and len(host) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in labels)


def _read(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a string HOST:PORT, such as '127.0.0.1:7946'")
    return parse_address(value.strip())


def _read_bind(value: Any) -> Address:
    address = _read(value)
    if address.host == "localhost":
        return Address("127.0.0.1", address.port)
    if address.ip is None:
        raise ValueError(
            "expected an IP address of this host and a port, such as 127.0.0.1:7946 or, for "
            "all addresses, 0.0.0.0:7946"
        )
    return address


def _read_advertised(value: Any) -> Address:
    address = _read_bind(value)
    if address.is_unspecified:
        raise ValueError("expected the IP address by which the other nodes reach this one")
    return address


def _read_peer(value: Any) -> Address:
    address = _read(value)
    if not address.port:
        raise ValueError("expected the port of the other node; 0 is none")
    if address.is_unspecified:
        raise ValueError("expected the address of another node, not 'all addresses'")
    return address


_as_text = PlainSerializer(str, return_type=str)

BindAddress = Annotated[Address, BeforeValidator(_read_bind), _as_text]
"""Where to listen: an IP literal or ``localhost`` (``127.0.0.1``); port 0 takes a free one."""

AdvertisedAddress = Annotated[Address, BeforeValidator(_read_advertised), _as_text]
"""What others are told: an IP literal; port 0 stands for the port that was bound."""

PeerAddress = Annotated[Address, BeforeValidator(_read_peer), _as_text]
"""Another node: an IP literal or a host name, and a port."""
