"""How the store and the leases reach the replicated state, from wherever they are.

On a voter it is :class:`LocalAccess`; an agent that is no voter speaks with one over the
network. Everything goes through these three calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from constellation_core.consensus.interface import Engine
from constellation_core.consensus.state import Answer, Query, ReplicatedState
from constellation_core.consensus.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Renewal:
    """What came of a renewal that is committed.

    Attributes:
        lost: epochs with which nothing is held any more.
        next_in: seconds after which to ask again, so that many renewals share an entry.
    """

    lost: tuple[int, ...]
    next_in: float


class Access(Protocol):
    """A way to the voters.

    Each call is one attempt and raises what :meth:`~.interface.Engine.propose` raises:
    ``NotLeader`` and ``Unavailable`` when nothing was done nor will be, else ``Unknown``. A way
    on which a request may arrive twice must not raise the first two for one that did or may yet:
    the second arrival may be carried out.
    """

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """Have an operation carried out; the bytes of its result."""
        ...

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """Read.

        Args:
            query: what to read.
            linearizable: all that was acknowledged before the call is seen. Else what some
                voter knows, which may be old.
            wait: for a query of what changed: so many seconds to wait until something did.
            timeout: seconds for the attempt, those of ``wait`` not counted.
        """
        ...

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """Renew leases together with those of others; returns when that is committed."""
        ...


class LocalAccess:
    """The way on a voter itself. What only the leader can do raises ``NotLeader`` elsewhere.

    Args:
        engine: the voter.
        state: the state that the engine drives.
        renew: :meth:`.leases.duties.LeaseDuties.renew` of the voter.
    """

    def __init__(
        self,
        engine: Engine,
        state: ReplicatedState,
        renew: Callable[[tuple[int, ...], float], Awaitable[Renewal]],
    ) -> None:
        self._engine = engine
        self._waiting = Waiting(engine, state)
        self._renew = renew

    async def propose(self, operation: bytes, *, timeout: float) -> bytes:
        """As :meth:`Access.propose`."""
        return await self._engine.propose(operation, timeout=timeout)

    async def renew(self, epochs: tuple[int, ...], *, timeout: float) -> Renewal:
        """As :meth:`Access.renew`."""
        return await self._renew(epochs, timeout)

    async def query(
        self, query: Query, *, linearizable: bool, wait: float, timeout: float
    ) -> Answer:
        """As :meth:`Access.query`."""
        if linearizable:
            await self._engine.barrier(timeout=timeout)
        if query.after is None or wait <= 0:
            return await self._waiting.read(query)
        return await self._waiting.wait(query, wait)
