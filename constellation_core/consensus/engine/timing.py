"""How patient voters are, and when they compact their logs."""

from __future__ import annotations

from dataclasses import dataclass

from pysyncobj.config import SyncObjConf


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, and when the log is compacted.

    Attributes:
        election_min: a follower waits at least so long for its leader,
        election_max: and at most so long.
        heartbeat: between two messages of an idle leader.
        leader_patience: without a majority's answers, a leader steps down after this.
        compact_entries: a snapshot is taken when the log has more entries,
        compact_seconds: or when the last is so old,
        compact_bytes: or when the journal is larger.
        batch_bytes: of entries in one message; in production more than one command has, or the
            library would pickle it.
        notice: after so long at the latest the others hear what is committed. The next entries
            tell them too, so under load no message is needed for it.
    """

    election_min: float = 1.0
    election_max: float = 2.0
    heartbeat: float = 0.25
    leader_patience: float = 2.0
    compact_entries: int = 1_000
    compact_seconds: float = 3_600.0
    compact_bytes: int = 8 * 1024 * 1024
    batch_bytes: int = 256 * 1024
    notice: float = 0.005


def configure(timing: Timing) -> SyncObjConf:
    """What of it the library is told."""
    return SyncObjConf(
        autoTick=False,
        raftMinTimeout=timing.election_min,
        raftMaxTimeout=timing.election_max,
        appendEntriesPeriod=timing.heartbeat,
        appendEntriesBatchSizeBytes=timing.batch_bytes,
        leaderFallbackTimeout=timing.leader_patience,
        connectionTimeout=max(3.5, timing.election_max),
        logCompactionMinEntries=timing.compact_entries,
        logCompactionMinTime=timing.compact_seconds,
        # Done in Replica instead: sending at once, changes of the voters, files.
        appendEntriesUseBatch=True,
        dynamicMembershipChange=False,
        journalFile=None,
        fullDumpFile=None,
    )
