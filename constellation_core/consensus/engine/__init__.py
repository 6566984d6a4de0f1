"""The built-in engine: PySyncObj's Raft, with storage, transport and guards of our own."""

from __future__ import annotations

from constellation_core.consensus.engine.commands import MAX_OPERATION
from constellation_core.consensus.engine.engine import EngineSettings, RaftEngine
from constellation_core.consensus.engine.identity import Identity
from constellation_core.consensus.engine.storage import create
from constellation_core.consensus.engine.timing import Timing

__all__ = ["MAX_OPERATION", "EngineSettings", "Identity", "RaftEngine", "Timing", "create"]
