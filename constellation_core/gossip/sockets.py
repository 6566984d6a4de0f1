"""The sockets of gossip: UDP and TCP on one port, and addresses of seeds."""

from __future__ import annotations

import asyncio
import errno
import socket

from constellation_core.gossip.member import Address


class GossipBindError(Exception):
    """The gossip address cannot be used; the text says which and what to do."""


def plain_host(host: str) -> str:
    """An IP literal as it stands in messages: IPv4 as such, also on a socket of IPv6."""
    return host.removeprefix("::ffff:") if "." in host else host


async def resolve(seed: str) -> Address:
    """The address of ``HOST:PORT``.

    Raises:
        OSError: when the host has no address, or this is something else.
    """
    host, _, port = seed.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise OSError("it is not HOST:PORT")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no host can have this name") from None
    address = found[0][4]
    return (str(address[0]), int(address[1]))


def bind(address: Address, *, backlog: int) -> tuple[socket.socket, socket.socket]:
    """A listening TCP socket and a UDP socket on one port; port 0 takes a free one.

    Raises:
        GossipBindError: when the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    attempts = 20 if address[1] == 0 else 1
    for attempt in range(attempts):
        # With its protocol named: asyncio turns Nagle's delays off only for what it knows as TCP.
        tcp = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.setblocking(False)
            udp.setblocking(False)
            tcp.bind(address)
            # Listening claims the port: bind alone lets two sockets have it.
            tcp.listen(backlog)
            udp.bind((address[0], tcp.getsockname()[1]))
        except OSError as error:
            tcp.close()
            udp.close()
            if error.errno == errno.EADDRINUSE and attempt < attempts - 1:
                continue
            raise GossipBindError(_explain_bind(address, error)) from error
        return tcp, udp
    raise AssertionError("unreachable")


def _explain_bind(address: Address, error: OSError) -> str:
    where = f"{address[0]}:{address[1]}"
    hints = {
        errno.EADDRINUSE: "another process uses it; stop that one or change [gossip] bind",
        errno.EADDRNOTAVAIL: "no interface of this host has the address; change [gossip] bind",
        errno.EACCES: "ports below 1024 need privileges; change [gossip] bind",
    }
    hint = hints.get(error.errno or 0, "change [gossip] bind")
    return f"cannot listen on {where} (TCP and UDP): {error.strerror}; {hint}"
