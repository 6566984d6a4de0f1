"""Who is dialled when, and with which key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from constellation_core.consensus.engine.handshake import Dialler, Listener
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.keys import group_keys

_RETRY = 1.0


class Peers:
    """The other voters' addresses.

    Args:
        identity: this voter's.
        cluster_keys: the current cluster key, then those still accepted.
        retry: seconds between two attempts to reach a voter.

    Raises:
        ValueError: a key has not 32 bytes, or there is none.
    """

    def __init__(
        self, identity: Identity, cluster_keys: Sequence[bytes], retry: float = _RETRY
    ) -> None:
        self._identity = identity
        self._keys = group_keys(cluster_keys, identity.cluster)
        self._retry = retry
        self._addresses: dict[str, str] = {}
        self._last: dict[str, float] = {}
        self._attempts: dict[str, int] = {}

    def know(self, voter: str, address: str) -> None:
        """The voter is reached at this address."""
        self._addresses[voter] = address
        self._last.pop(voter, None)

    def forget(self, voter: str) -> None:
        """The voter is not dialled any more."""
        self._addresses.pop(voter, None)
        self._attempts.pop(voter, None)

    def failed(self, address: str) -> None:
        """Try another key next time, as this voter's current one may be too new or too old."""
        for voter, each in self._addresses.items():
            if each == address:
                self._attempts[voter] = self._attempts.get(voter, 0) + 1

    def due(self, now: float) -> Iterator[tuple[str, str]]:
        """The voters that are to be dialled now, if they are not connected; and their addresses."""
        for voter, address in self._addresses.items():
            if now - self._last.get(voter, -self._retry) >= self._retry:
                self._last[voter] = now
                yield voter, address

    def dials_first(self, voter: str) -> bool:
        """Whether, of two connections, the one that this voter dialled is kept."""
        return self._identity.id < voter

    def dialler(self, voter: str) -> Dialler:
        """The handshake of a connection to this voter."""
        key = self._keys[self._attempts.get(voter, 0) % len(self._keys)]
        return Dialler(key, self._identity.cluster, self._identity.voter, UUID(voter))

    def listener(self) -> Listener:
        """The handshake of a connection that came."""
        return Listener(self._keys, self._identity.cluster, self._identity.voter)
