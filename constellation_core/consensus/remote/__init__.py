"""The way of those who do not vote to those who do, over any network that carries messages."""

from __future__ import annotations

from constellation_core.consensus.remote.access import RemoteAccess
from constellation_core.consensus.remote.network import (
    Caller,
    Directory,
    LocalFirst,
    LostError,
    NotReachedError,
)
from constellation_core.consensus.remote.service import ConsensusService

__all__ = [
    "Caller",
    "ConsensusService",
    "Directory",
    "LocalFirst",
    "LostError",
    "NotReachedError",
    "RemoteAccess",
]
