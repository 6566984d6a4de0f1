"""Who votes: how a cluster is founded, and how its voters are kept whole."""

from __future__ import annotations

from constellation_core.consensus.voters.builtin import BuiltinEngines
from constellation_core.consensus.voters.lifecycle import VoterLifecycle
from constellation_core.consensus.voters.network import (
    Caller,
    Candidate,
    Engines,
    Membership,
    Part,
    UnreachableError,
)
from constellation_core.consensus.voters.settings import SIZES, VoterSettings, VoterTimes
from constellation_core.consensus.voters.status import RunningVoter, Standing

__all__ = [
    "SIZES",
    "BuiltinEngines",
    "Caller",
    "Candidate",
    "Engines",
    "Membership",
    "Part",
    "RunningVoter",
    "Standing",
    "UnreachableError",
    "VoterLifecycle",
    "VoterSettings",
    "VoterTimes",
]
