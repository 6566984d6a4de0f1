"""The replicated state: pure and deterministic; no clock, no chance, no input or output.

Every voter carries out the same operations in the same order and comes to the same bytes.
"""

from __future__ import annotations

from constellation_core.consensus.state.leases import Held
from constellation_core.consensus.state.machine import OutdatedError, ReplicatedState
from constellation_core.consensus.state.queries import Answer, Entry, Query, Space

__all__ = ["Answer", "Entry", "Held", "OutdatedError", "Query", "ReplicatedState", "Space"]
