"""Our gossip nodes, for a :class:`~benchmarks.watched.WatchedCluster`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import gossip_node
from benchmarks.watched import Sight

_KINDS = {"joined": "alive", "failed": "failed", "left": "left", "ready": "ready"}


class OurNodes:
    """Processes of :mod:`benchmarks.gossip_node`.

    Args:
        key: 32 bytes as base64, which encrypts all.
        lan: memberlist's timings for a local network, which Serf has, instead of our own.
    """

    def __init__(self, key: str, *, lan: bool) -> None:
        self._key = key
        self._lan = lan
        self.sent: dict[str, int] = {}

    def command(
        self,
        name: str,
        bind: str,
        control: str,  # noqa: ARG002 - nothing else is listened on
        seeds: Sequence[str],
        folder: Path,
    ) -> list[str | Path]:
        """Write the settings of a node; the command line that runs it."""
        config = folder / f"{name}.json"
        config.touch(mode=0o600)
        document = {
            "name": name,
            "bind": bind,
            "seeds": list(seeds),
            "key": self._key,
            "lan": self._lan,
        }
        config.write_text(json.dumps(document))
        return [sys.executable, str(gossip_node.__file__), config]

    def read(self, line: str) -> Sight | None:
        """What a line tells."""
        document = json.loads(line)
        if "sent" in document:
            return Sight("sent", str(document["sent"]))
        kind = _KINDS.get(document["event"])
        return Sight(kind, document["member"]) if kind is not None else None
