"""What the catalog counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

log = logging.getLogger("constellation.catalog")


@dataclass(slots=True)
class CatalogStats:
    """What the catalog counted since it started.

    Attributes:
        updates_applied: updates of others that brought something new.
        updates_old: updates that brought nothing new; with gossip, most.
        gaps: updates that did not follow on what was known.
        comparisons: digests compared with another node.
        pulls: requests for rows.
        broadcast_bytes: what this node spent on broadcasts.
        overflowed: broadcasts that did not fit the queue and were left to the comparisons.
        outdone: how often others held something of this node that it never said.
        rejected: parts of messages that were refused.
        last_rejected: why, for the last of them.
    """

    updates_applied: int = 0
    updates_old: int = 0
    gaps: int = 0
    comparisons: int = 0
    pulls: int = 0
    broadcast_bytes: int = 0
    overflowed: int = 0
    outdone: int = 0
    rejected: int = 0
    last_rejected: str = ""

    def reject(self, reason: str) -> None:
        """Count something that was refused; logged when it is another reason than the last."""
        self.rejected += 1
        if reason != self.last_rejected:
            log.warning("refused a part of the catalog: %s", reason)
        self.last_rejected = reason
