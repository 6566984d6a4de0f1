"""Requests over TCP that wait for their answers."""

from __future__ import annotations

from collections.abc import Callable

from constellation_core.gossip.actions import Exchange, ExchangeFailed
from constellation_core.gossip.member import Address
from constellation_core.gossip.streams import StreamMessage
from constellation_core.gossip.timers import Timers

_STOPPED = ExchangeFailed("this node has stopped")

OnReply = Callable[[StreamMessage | ExchangeFailed], None]


class Exchanges:
    """Hands requests to the driver, and their outcomes to those who asked.

    Args:
        timers: the time.
        timeout: seconds for an exchange that sets no other.
        emit: takes each request.

    Attributes:
        refused: while this is not empty, every request fails with it at once.
    """

    def __init__(self, timers: Timers, timeout: float, emit: Callable[[Exchange], None]) -> None:
        self._timers = timers
        self._timeout = timeout
        self._emit = emit
        self._waiting: dict[int, OnReply] = {}
        self._token = 0
        self._stopped = False
        self.refused = ""

    def open(
        self,
        address: Address,
        request: StreamMessage,
        done: OnReply,
        timeout: float | None = None,
        *,
        wants_reply: bool = True,
    ) -> None:
        """Send a request; ``done`` gets its outcome exactly once; later, but for :meth:`stop`."""
        if self._stopped:
            done(_STOPPED)
            return
        if self.refused:
            reason = self.refused
            self._timers.call_later(0, lambda: done(ExchangeFailed(reason)))
            return
        self._token += 1
        self._waiting[self._token] = done
        self._emit(Exchange(self._token, address, request, wants_reply, timeout or self._timeout))

    def close(self, token: int, reply: StreamMessage | ExchangeFailed) -> None:
        """The driver tells the outcome of an exchange."""
        callback = self._waiting.pop(token, None)
        if callback is not None:
            callback(reply)

    def stop(self) -> None:
        """All that waits fails now, and what is asked from now on at once: nobody answers it."""
        self._stopped = True
        for token in list(self._waiting):
            self.close(token, _STOPPED)
