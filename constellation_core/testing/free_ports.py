"""Ports to listen on that nobody uses, and that the kernel gives to nobody meanwhile."""

from __future__ import annotations

import socket
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
    again whenever its owner restarts. Those picked here lie below that range.

    Args:
        host: the address to listen on, an IPv4 literal.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._picked: set[int] = set()
        self._random = SystemRandom()
        self._below = _first_ephemeral()

    def pick(self) -> int:
        """A port that nothing listens on now, and that this picker has not given before.

        Raises:
            NoFreePortError: when there seems to be none.
        """
        for _ in range(_ATTEMPTS):
            port = self._random.randrange(_LOWEST, self._below)
            if port not in self._picked and is_free(self._host, port):
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


def _first_ephemeral() -> int:
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    # Where an administrator has widened the range to nearly everything, there is no better one.
    return first if first > _LOWEST + 1000 else 60_000
