"""What a run of the demo came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The figures of the last line.

    Attributes:
        nodes: how many agents.
        requests: sent through Traefik.
        failed: of these, without a good answer.
        reasons: why, with how often.
        kills: nodes killed.
        reroute_seconds: for each kill, until Traefik listed no instance of that node any more.
        problems: why the fleet is not whole at the end; empty when it is.
    """

    nodes: int
    requests: int
    failed: int
    reasons: Mapping[str, int]
    kills: int
    reroute_seconds: Sequence[float]
    problems: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether the fleet is whole, and requests are answered."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "nodes": self.nodes,
            "requests": self.requests,
            "failed": self.failed,
            "kills": self.kills,
            "reroute_seconds": list(self.reroute_seconds),
            "ok": self.ok,
        }
