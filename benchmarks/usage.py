"""What a process has used, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and megabytes (10^6 bytes).

    Attributes:
        cpu: seconds, user and system.
        pss: memory, with pages that several processes share divided among them.
        rss: memory, with shared pages counted in full in every process.
        anonymous: the part of ``rss`` that no file stands behind: what the process itself made.
    """

    cpu: float
    pss: float
    rss: float
    anonymous: float


def usage(pid: int) -> Usage:
    """What the process ``pid`` has used so far."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])
    sizes = {
        words[0]: int(words[1]) * 1024 / 1e6
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        if (words := line.split())
    }
    return Usage(
        ticks / os.sysconf("SC_CLK_TCK"), sizes["Pss:"], sizes["Rss:"], sizes["Anonymous:"]
    )
