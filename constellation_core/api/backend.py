"""What the API reads of the agent and asks of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from constellation_core.runtime import LogLine

Document = Mapping[str, Any]
"""What becomes a JSON object."""


class Journal(Protocol):
    """Recent events, and those to come."""

    @property
    def last_id(self) -> int:
        """Id of the newest event."""

    def documents_after(self, event_id: int) -> Sequence[Document]:
        """The events after that one that are still kept; each has its ``id``."""

    def follow(self, event_id: int) -> AsyncIterator[Document]:
        """The events after that one, then all that come."""


class Backend(Protocol):
    """The agent, as the API sees it. Nothing here blocks."""

    @property
    def journal(self) -> Journal: ...

    def not_ready(self) -> Sequence[str]:
        """Why this agent is not ready to serve; empty when it is."""

    def status(self) -> Document: ...
    def members(self) -> Sequence[Document]: ...
    def services(self) -> Sequence[Document]: ...
    def instances(self) -> Sequence[Document]: ...
    def plugins(self) -> Sequence[Document]: ...

    def leases(self) -> Sequence[Document]:
        """Who holds which lease, as last heard."""

    def consensus(self) -> Document:
        """How consensus stands; ``backend``, ``available``, ``leader`` and ``problems`` are always
        there."""

    async def consensus_backup(self) -> bytes:
        """A backup of the replicated state, as :mod:`constellation_core.consensus.backups` has it.

        Raises ``RefusedError`` when this agent holds none.
        """

    async def verify(self) -> Sequence[Document]:
        """Run all checks."""

    def logs(
        self, instance_id: str, *, tail: int, follow: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """What an instance wrote, on whichever node.

        Entering raises ``KeyError`` for one that nobody knows, and entering and reading
        ``RefusedError`` when its node does not give its logs.
        """

    async def restart(self, instance_id: str) -> None:
        """Restart an instance of this node. Raises ``KeyError`` for another's."""

    async def reload(self) -> Document:
        """Load the services file anew. Raises ``RefusedError``, and changes nothing then."""

    def shut_down(self) -> None:
        """Leave the cluster and end."""
