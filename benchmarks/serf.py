"""Serf, the peer of what gossips."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.result import MissingPeerError
from benchmarks.watched import Sight
from constellation_core.testing.waiting import until

_TELEMETRY_INTERVAL = 10.0
_SENT = re.compile(
    r"^\[([^]]+)\]\[C\] '[^']*memberlist\.(?:udp|tcp)\.sent'.* Sum: ([0-9.]+)", re.MULTILINE
)
_EVENT = re.compile(r"serf: EventMember(Join|Failed|Leave|Reap): (\S+)")
_READY = "Serf agent running!"
_KINDS = {"Join": "alive", "Failed": "failed", "Leave": "left", "Reap": "forgotten"}


def find_serf() -> str:
    """Path of the program.

    Raises:
        MissingPeerError: when it is not installed.
    """
    found = shutil.which("serf")
    if found is None:
        raise MissingPeerError("serf is not installed; on Debian: apt-get install serf")
    return found


class SerfNodes:
    """Serf agents for a :class:`~benchmarks.watched.WatchedCluster`.

    Args:
        key: 32 bytes as base64, which encrypts all.
        settings: more of its configuration, for all.
    """

    def __init__(self, key: str, settings: dict[str, Any] | None = None) -> None:
        self._program = find_serf()
        self._key = key
        self._settings = settings or {}

    def command(
        self, name: str, bind: str, control: str, seeds: Sequence[str], folder: Path
    ) -> list[str | Path]:
        """Write the configuration of a node; the command line that runs it."""
        config = folder / f"{name}.json"
        config.touch(mode=0o600)
        document = {
            "node_name": name,
            "bind": bind,
            "rpc_addr": control,
            "encrypt_key": self._key,
            "start_join": list(seeds),
            **self._settings,
        }
        config.write_text(json.dumps(document))
        return [self._program, "agent", f"-config-file={config}"]

    def read(self, line: str) -> Sight | None:
        """What a line of the log tells."""
        found = _EVENT.search(line)
        if found is not None:
            return Sight(_KINDS[found[1]], found[2])
        return Sight("ready", "") if _READY in line else None


async def sent_per_second(pid: int, log_file: Path) -> float:
    """Bytes that a Serf agent says it sent, in the last whole intervals of its telemetry.

    On SIGUSR1 it writes the sums of the last minute's intervals, of 10 seconds each, to its
    standard error.
    """
    os.kill(pid, signal.SIGUSR1)

    async def written() -> dict[str, float]:
        sums = _sums(log_file)
        return sums if len(sums) > 2 else {}

    sums = await until(written, 10.0, "Serf's telemetry")
    # The first interval has the join in it, and the last one may not be over.
    whole = sorted(sums)[1:-1]
    return fmean(sums[begin] for begin in whole) / _TELEMETRY_INTERVAL


def _sums(log_file: Path) -> dict[str, float]:
    """Bytes sent by the beginning of the interval."""
    sums: dict[str, float] = {}
    for begin, total in _SENT.findall(log_file.read_text(errors="replace")):
        sums[begin] = sums.get(begin, 0.0) + float(total)
    return sums
