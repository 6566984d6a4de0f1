"""Consensus: what must have one owner gets one, and what was acknowledged is never lost.

The engine itself is imported only where one is made
(``constellation_core.consensus.engine``): most agents are not voters.
"""

from __future__ import annotations

from constellation_core.consensus.interface import (
    ApplyFailed,
    ConsensusError,
    Corrupt,
    Engine,
    EngineStatus,
    MembershipRefused,
    NotLeader,
    Role,
    StateMachine,
    Unavailable,
    Unknown,
    Voter,
)

__all__ = [
    "ApplyFailed",
    "ConsensusError",
    "Corrupt",
    "Engine",
    "EngineStatus",
    "MembershipRefused",
    "NotLeader",
    "Role",
    "StateMachine",
    "Unavailable",
    "Unknown",
    "Voter",
]
