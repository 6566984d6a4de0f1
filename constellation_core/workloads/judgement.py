"""How well an instance is: one decision from its driver's word and its checker's."""

from __future__ import annotations

from dataclasses import dataclass

from constellation_core.model.health import Health
from constellation_core.runtime import Phase, RuntimeStatus


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker found.

    Attributes:
        health: the best that may be published.
        reason: why it is not better.
    """

    health: Health
    reason: str = ""


def judge(status: RuntimeStatus, *, checked: bool, verdict: Verdict | None) -> Verdict:
    """The health to publish.

    Args:
        status: as the driver sees the instance.
        checked: whether its definition asks for a check, so that running alone proves nothing.
        verdict: the checker's last word since the instance was last started, if any.
    """
    if status.phase in (Phase.STOPPED, Phase.STOPPING):
        return Verdict(Health.STOPPED, status.detail or status.phase.value)
    passes = verdict is not None and verdict.health is Health.HEALTHY
    if status.crash_looping and not (passes and status.phase is Phase.RUNNING):
        return Verdict(Health.CRASH_LOOPING, status.detail or "restarted too often")
    if status.phase is Phase.BACKOFF:
        return Verdict(Health.UNHEALTHY, status.detail or "waits for its restart")
    if status.phase is Phase.PENDING:
        return Verdict(Health.STARTING, "not started yet")
    if verdict is not None:
        return verdict
    if checked:
        return Verdict(Health.STARTING, "not checked yet")
    if not status.driver_health:
        return Verdict(Health.UNHEALTHY, status.detail or "its driver calls it sick")
    return Verdict(Health.HEALTHY)
