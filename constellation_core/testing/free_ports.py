"""Ports to listen on that nobody uses, and that the kernel gives to nobody meanwhile."""

from __future__ import annotations

import os
import socket
import sys
import weakref
from pathlib import Path
from random import SystemRandom

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_ATTEMPTS = 500


class NoFreePortError(RuntimeError):
    """No port could be found, in many attempts."""


class PortPicker:
    """Picks ports that are free for TCP and UDP, each only once.

    A port that was found by binding to port 0 lies in the range from which the kernel takes
    the near ends of outgoing connections, so under load it may be gone before it is used, and
    again whenever its owner restarts. Those picked here lie below that range. No other picker on
    this host gives one of them as long as this picker lives (on Linux), also while nothing
    listens on it: two fleets that start at the same moment do not get in each other's way.

    Args:
        host: the address to listen on, an IPv4 literal.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._claims: list[int] = []
        weakref.finalize(self, _close_all, self._claims)
        self._picked: set[int] = set()
        self._random = SystemRandom()
        self._below = _first_ephemeral()

    def pick(self) -> int:
        """A port that nothing listens on now, and that no picker has given before.

        Raises:
            NoFreePortError: when there seems to be none.
        """
        for _ in range(_ATTEMPTS):
            port = self._random.randrange(_LOWEST, self._below)
            if port in self._picked or not is_free(self._host, port):
                continue
            claim = _claim(self._host, port)
            if claim is not None:
                self._claims.append(claim)
                self._picked.add(port)
                return port
        raise NoFreePortError(
            f"no free port on {self._host} between {_LOWEST} and {self._below} in {_ATTEMPTS} "
            "attempts"
        )


def is_free(host: str, port: int) -> bool:
    """Whether ``port`` could be bound now, for TCP and for UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                # As servers do: connections of an earlier listener that linger do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                if kind is socket.SOCK_STREAM:
                    probe.listen(1)
            except OSError:
                return False
    return True


def _claim(host: str, port: int) -> int | None:
    """A descriptor that stands for the port until it is closed; ``None`` if another does.

    A name of Linux's abstract namespace: taken by one at a time, and gone with its process.
    Elsewhere it is a descriptor that means nothing.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if sys.platform == "linux":
            claim.bind(f"\0constellation-port {host}:{port}")
    except OSError:
        claim.close()
        return None
    return claim.detach()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _first_ephemeral() -> int:
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    # Where an administrator has widened the range to nearly everything, there is no better one.
    return first if first > _LOWEST + 1000 else 60_000
