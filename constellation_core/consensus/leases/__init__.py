"""Leases: what must have one owner has one, and what the owner writes can be told by its epoch."""

from __future__ import annotations

from constellation_core.consensus.leases.blocks import Blocks
from constellation_core.consensus.leases.duties import LeaseDuties
from constellation_core.consensus.leases.grants import Grants
from constellation_core.consensus.leases.hold import Hold
from constellation_core.consensus.leases.lease import Lease, LeaseLost
from constellation_core.consensus.leases.manager import Leases, LeaseView, holder_id
from constellation_core.consensus.leases.times import LeaseTimes
from constellation_core.consensus.leases.watchdog import ThreadWatchdog, Watchdog

__all__ = [
    "Blocks",
    "Grants",
    "Hold",
    "Lease",
    "LeaseDuties",
    "LeaseLost",
    "LeaseTimes",
    "LeaseView",
    "Leases",
    "ThreadWatchdog",
    "Watchdog",
    "holder_id",
]
