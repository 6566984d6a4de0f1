"""Our voters, for :class:`~benchmarks.members.Members`, and a client of theirs."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import SystemRandom
from typing import Any
from uuid import UUID, uuid4

from benchmarks.frames import Frames
from benchmarks.members import HOST, Member
from constellation_core.consensus.access import Access, Renewal
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import Identity, create
from constellation_core.consensus.interface import (
    ApplyFailed,
    ConsensusError,
    NotLeader,
    Unavailable,
    Unknown,
    Voter,
)
from constellation_core.consensus.leases import Leases, ThreadWatchdog, holder_id
from constellation_core.consensus.requests import Requests
from constellation_core.consensus.state import Answer, Query, ReplicatedState, Space
from constellation_core.consensus.state.queries import decode_answer, encode_query
from constellation_core.consensus.store import Store

_ERRORS: Mapping[str, type[ConsensusError]] = {
    each.__name__: each for each in (Unavailable, Unknown, ApplyFailed)
}
_PROBE = Query(Space.KEYS, "probe", exact=True)
_ATTEMPT = 5.0


class OurVoters:
    """Processes of :mod:`benchmarks.consensus_voter`; all encrypts."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def prepare(self, members: Sequence[Member]) -> None:
        """As :meth:`Kind.prepare`."""
        cluster = uuid4()
        voters = [Voter(str(uuid4()), _address(each)) for each in members]
        for each, voter in zip(members, voters, strict=True):
            directory = each.folder / "data"
            directory.mkdir()
            identity = Identity(cluster, UUID(voter.id))
            create(directory, identity, voters, ReplicatedState().snapshot())

    def command(self, member: Member) -> list[str | Path]:
        """As :meth:`Kind.command`."""
        path = member.folder / "settings.json"
        path.touch(mode=0o600)
        settings = {
            "directory": str(member.folder / "data"),
            "host": HOST,
            "port": member.peer_port,
            "client_port": member.client_port,
            "key": self._key.hex(),
        }
        path.write_text(json.dumps(settings))
        return [sys.executable, "-m", "benchmarks.consensus_voter", path]

    async def connect(self, members: Sequence[Member], name: str | None = None) -> OurClient:
        """As :meth:`Kind.connect`."""
        ways = {
            _address(each): _Connection(each.client_port)
            for each in members
            if name in (None, each.name)
        }
        return OurClient(ways, {_address(each): each.name for each in members})

    def log_bytes(self, member: Member) -> int:
        """As :meth:`Kind.log_bytes`; zeros are room that is reserved."""
        return len((member.folder / "data" / "journal").read_bytes().rstrip(b"\0"))


class OurClient:
    """Store and leases through one voter, or through whichever leads.

    Args:
        ways: to voters, by address.
        names: of all members, by address.
    """

    def __init__(self, ways: Mapping[str, _Connection], names: Mapping[str, str]) -> None:
        self._ways = ways
        self._names = names
        self._access: Access = _Voters(ways)
        clock, chance = SystemBootClock(), SystemRandom()
        requests = Requests(self._access, clock, chance)
        self._store = Store(self._access, requests, clock, chance)
        self._leases = Leases(
            self._access,
            requests,
            clock,
            chance,
            ThreadWatchdog(),
            holder=holder_id("benchmark", chance),
        )

    async def write(self, key: str, value: bytes) -> None:
        """As :meth:`Client.write`."""
        await self._store.put(key, value)

    async def attempt(self) -> None:
        """As :meth:`Client.attempt`: a linearizable read, which commits an entry."""
        await self._access.query(_PROBE, linearizable=True, wait=0.0, timeout=_ATTEMPT)

    async def status(self) -> tuple[str | None, int]:
        """As :meth:`Client.status`."""
        leader, applied = await next(iter(self._ways.values())).ask("status")
        return self._names.get(leader), applied

    def lease(self, name: str, ttl: int) -> AbstractAsyncContextManager[object]:
        """As :meth:`Client.lease`."""
        return self._leases.hold(name, ttl=ttl)

    async def close(self) -> None:
        """As :meth:`Client.close`."""
        await self._leases.close()
        for way in self._ways.values():
            way.close()


def _address(member: Member) -> str:
    return f"{HOST}:{member.peer_port}"


class _Voters:
    """An :class:`~constellation_core.consensus.access.Access` by one hop to the leader."""

    def __init__(self, ways: Mapping[str, _Connection]) -> None:
        self._ways = ways
        self._order = list(ways)

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        answer: bytes = await self._ask("propose", operation, timeout)
        return answer

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        asked = ("query", encode_query(query), linearizable, wait, timeout)
        return decode_answer(await self._ask(*asked))

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        lost, next_in = await self._ask("renew", list(epochs), timeout)
        return Renewal(tuple(lost), next_in)

    async def _ask(self, *request: Any) -> Any:
        first = self._order[0]
        try:
            return await self._ways[first].ask(*request)
        except NotLeader as error:
            leader = error.hint.address if error.hint else ""
            if leader not in self._ways:
                self._prefer_another(first)
                raise
            self._order.sort(key=lambda each: each != leader)
            return await self._ways[leader].ask(*request)
        except (Unavailable, Unknown):
            self._prefer_another(first)
            raise

    def _prefer_another(self, first: str) -> None:
        if self._order[0] == first:
            self._order.append(self._order.pop(0))


class _Connection:
    """A connection to one voter, made when it is needed, and shared by all who ask."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connecting = asyncio.Lock()
        self._frames: Frames | None = None
        self._waiting: dict[int, asyncio.Future[list[Any]]] = {}
        self._number = 0

    async def ask(self, *request: Any) -> Any:
        """Ask; raises what the voter raised."""
        frames = self._frames or await self._connect()
        self._number += 1
        number = self._number
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        frames.send([number, *request])
        try:
            outcome, value = await future
        finally:
            self._waiting.pop(number, None)
        if outcome == "done":
            return value
        if outcome == "NotLeader":
            raise NotLeader(Voter("", value) if value else None)
        raise _ERRORS[outcome](value)

    def close(self) -> None:
        if self._frames is not None:
            self._frames.close()

    async def _connect(self) -> Frames:
        async with self._connecting:
            if self._frames is None:
                loop = asyncio.get_running_loop()
                try:
                    _, self._frames = await loop.create_connection(
                        lambda: Frames(self._received, self._lost), HOST, self._port
                    )
                except OSError as error:
                    raise Unavailable("it does not answer") from error
            return self._frames

    def _received(self, _: Frames, answer: list[Any]) -> None:
        future = self._waiting.get(answer[0])
        if future is not None and not future.done():
            future.set_result(answer[1:])

    def _lost(self) -> None:
        self._frames = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unknown("the connection is lost"))
