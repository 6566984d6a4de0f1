"""Real port numbers for the ports of an instance."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from constellation_core.model.port import Port


class PortInUseError(Exception):
    """A fixed port is taken by another process."""


def allocate(ports: Sequence[Port], address: str, before: Mapping[str, int]) -> dict[str, int]:
    """A free number for every port: the fixed one, the one it had before, or any.

    Raises:
        PortInUseError: when a fixed port is taken.
    """
    numbers: dict[str, int] = {}
    for port in ports:
        if port.number:
            if not _is_free(address, port.number, port.protocol):
                raise PortInUseError(f"port {port.number} ({port.name}) is used by another process")
            numbers[port.name] = port.number
            continue
        known = before.get(port.name, 0)
        if not known or known in numbers.values() or not _is_free(address, known, port.protocol):
            known = _any_free(address, port.protocol)
        numbers[port.name] = known
    return numbers


def _socket(address: str, protocol: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    return socket.socket(family, kind)


def _is_free(address: str, number: int, protocol: str) -> bool:
    with _socket(address, protocol) as probe:
        if protocol == "tcp":
            # As servers do: connections of the last run that linger do not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, number))
        except OSError:
            return False
        return True


def _any_free(address: str, protocol: str) -> int:
    with _socket(address, protocol) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
