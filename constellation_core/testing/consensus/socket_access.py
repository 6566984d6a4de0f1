"""A client's way to voter processes, over their Unix sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.interface import NotLeader, Unavailable, Unknown
from constellation_core.consensus.state import Answer, Query
from constellation_core.consensus.state.queries import decode_answer, encode_query
from constellation_core.testing.consensus.control import Client, Gone

_SLACK = 0.5
"""Seconds that a voter may take longer than it was told."""


class SocketAccess:
    """An :class:`~constellation_core.consensus.access.Access` to processes on this machine.

    It asks one voter, and the leader that this one names. It asks another one next time when that
    failed.

    Args:
        sockets: of the voters, by id.
        first: which of them it asks first, counted from 0.
    """

    def __init__(self, sockets: Mapping[str, Path], first: int) -> None:
        self._sockets = dict(sockets)
        self._ids = list(sockets)
        self._next = first
        self._clients: dict[str, Client] = {}
        self._connecting = asyncio.Lock()

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As the access's."""
        return await self._ask("submit", [operation, timeout], timeout)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """As the access's."""
        fields = [encode_query(query), linearizable, wait, timeout]
        return decode_answer(await self._ask("query", fields, wait + timeout))

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """As the access's."""
        answer = await self._ask("renew", [list(epochs), timeout], timeout)
        lost, next_in = msgpack.unpackb(answer)
        return Renewal(tuple(lost), next_in)

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    async def _ask(self, word: str, fields: list[Any], timeout: float) -> bytes:
        value: bytes = msgpack.packb(fields)
        first = self._ids[self._next % len(self._ids)]
        try:
            outcome, result = await self._once(first, word, value, timeout)
            if outcome == "NotLeader" and result in self._sockets and result != first:
                outcome, result = await self._once(result, word, value, timeout)
        except Gone as gone:
            self._next += 1
            if gone.sent:
                raise Unknown("no answer") from gone
            raise Unavailable("no such process") from gone
        if outcome == "done":
            return bytes(result)
        self._next += 1
        if outcome == "NotLeader":
            raise NotLeader
        raise {"Unavailable": Unavailable}.get(outcome, Unknown)(f"{outcome}: {result}")

    async def _once(self, voter: str, word: str, value: bytes, timeout: float) -> list[Any]:
        async with self._connecting:
            client = self._clients.get(voter)
            if client is None or client.closed:
                if client is not None:
                    await client.close()
                self._clients.pop(voter, None)
                client = await Client.connect(self._sockets[voter])
                self._clients[voter] = client
        return await client.ask(word, value, timeout + _SLACK)
