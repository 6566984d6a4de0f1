"""What a block needs of those who give leases: the built-in voters, or others."""

from __future__ import annotations

from typing import Protocol

from constellation_core.consensus.access import Renewal
from constellation_core.consensus.state.results import Granted, HeldByOther


class Grants(Protocol):
    """Gives leases to one agent, and takes them back.

    What may be done is told as elsewhere: ``Unavailable`` when nothing was done nor will be,
    ``Unknown`` when it may be. Whoever gives a lease must not give it to another one before its
    ttl is over, counted from the moment at which the grant or the latest renewal was asked for.
    """

    async def ask(self, name: str, ttl: float, *, timeout: float) -> Granted | HeldByOther:
        """Ask whether this agent may have the lease; what fails is tried again until ``timeout``.

        What was granted although it raises must be found to be this agent's when it asks again,
        and expire when it does not.

        Raises:
            ConsensusError: it was not granted, or that is not known.
            ValueError: it is refused for good.
        """
        ...

    async def until_free(self, name: str, revision: int) -> None:
        """Wait for ever, until nobody holds the lease at some revision after this one."""
        ...

    async def renew(self, name: str, epoch: int, ttl: float, *, timeout: float) -> Renewal:
        """Renew it; returns when the renewal counts, whoever leads the voters then.

        Raises:
            ConsensusError: it may be renewed or not.
        """
        ...

    async def release(self, name: str, epoch: int, *, timeout: float) -> None:
        """The holder is done with it.

        Raises:
            ConsensusError: it may be released or not; if not, it expires.
        """
        ...
