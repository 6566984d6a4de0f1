"""The UDP socket: everything that has come is read before the time is looked at.

asyncio's own transport reads one datagram in each turn of the loop, between the timers. After a
pause, when the answers to all probes lie in the socket's buffer behind others, that lets the
timers of these probes run first: who was paused would accuse those who answered in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from constellation_core.gossip.member import Address
from constellation_core.gossip.sockets import plain_host

log = logging.getLogger("constellation.gossip")

_LARGEST = 65_536
_MOST_AT_ONCE = 512
"""More than a buffer of the usual size holds; a flood beyond must not keep the loop."""


class DatagramSocket:
    """A UDP socket on the running loop.

    Args:
        sock: bound and not blocking; closed by :meth:`close`.
        received: takes each datagram, and where it came from.
        drained: called after one or more of them.
    """

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[bytes, Address], None],
        drained: Callable[[], None],
    ) -> None:
        self._socket = sock
        self._received = received
        self._drained = drained
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    def close(self) -> None:
        """Stop; harmless when stopped already."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram, or lose it, as UDP may."""
        with contextlib.suppress(BlockingIOError):
            try:
                self._socket.sendto(data, address)
            except OSError as error:
                # No route, a firewall: probing finds out what it means.
                log.debug("UDP to %s:%d: %s", *address, error)

    def drain(self) -> int:
        """Hand over what has come; how many datagrams that were."""
        for count in range(_MOST_AT_ONCE):
            try:
                data, source = self._socket.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return count
            except OSError as error:
                log.debug("UDP: %s", error)
                return count
            self._received(data, (plain_host(source[0]), source[1]))
        return _MOST_AT_ONCE

    def _readable(self) -> None:
        if self.drain():
            self._drained()
