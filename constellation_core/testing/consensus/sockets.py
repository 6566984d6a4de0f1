"""The network of :mod:`constellation_core.consensus.remote`, over the processes' Unix sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.remote import (
    ConsensusService,
    LostError,
    NotReachedError,
    RemoteAccess,
)
from constellation_core.consensus.remote.network import Messages
from constellation_core.testing.consensus.control import Client, Gone

SERVE = "serve"
"""The word before a client's request."""


class SocketCaller:
    """A :class:`~constellation_core.consensus.remote.Caller`.

    Args:
        sockets: of the voters, by id.
    """

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._sockets = dict(sockets)
        self._clients: dict[str, Client] = {}
        self._connecting = asyncio.Lock()

    async def call(self, voter: str, request: bytes, *, timeout: float) -> Messages:
        """As the caller's."""
        try:
            client = await self._client(voter)
            outcome, messages = await client.ask(SERVE, request, timeout)
        except Gone as gone:
            if gone.sent:
                raise LostError(str(gone)) from gone
            raise NotReachedError(str(gone)) from gone
        if outcome != "done" or not messages:
            raise LostError("no answer")
        return list(messages)

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    async def _client(self, voter: str) -> Client:
        async with self._connecting:
            client = self._clients.get(voter)
            if client is not None and client.closed:
                del self._clients[voter]
                await client.close()
                client = None
            if client is None:
                if voter not in self._sockets:
                    raise Gone(sent=False)
                client = self._clients[voter] = await Client.connect(self._sockets[voter])
            return client


class FixedDirectory:
    """A :class:`~constellation_core.consensus.remote.Directory` that never hears who leads.

    Args:
        voters: in the order in which to try them.
    """

    def __init__(self, voters: Sequence[str]) -> None:
        self._voters = tuple(voters)

    def voters(self) -> Sequence[str]:
        """As the directory's."""
        return self._voters

    def leader(self) -> str | None:
        """As the directory's."""
        return None


def socket_access(sockets: Mapping[str, Path], first: int) -> tuple[RemoteAccess, SocketCaller]:
    """A client's way to voters, and what is to be closed in the end.

    Args:
        sockets: of the voters, by id.
        first: which of them is asked first, counted from 0.
    """
    names = list(sockets)
    start = first % len(names)
    caller = SocketCaller(sockets)
    directory = FixedDirectory([*names[start:], *names[:start]])
    return RemoteAccess(directory, caller, SystemBootClock()), caller


async def serve(service: ConsensusService, request: bytes) -> list[Any]:
    """The outcome and value with which a process answers a client's request."""
    messages: list[bytes] = []

    async def keep(message: bytes, last: bool) -> None:  # noqa: ARG001
        messages.append(message)

    await service.serve(request, keep)
    return ["done", messages]
