"""What follows from the results of a check: the verdict, and when to restart.

A state machine without I/O: starts and results with their times go in, a :class:`Decision`
comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from constellation_core import Health, Restart
from constellation_core.backoff import RestartBackoff
from constellation_core.model.check import Check


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now.

    Attributes:
        health: the verdict to report; ``None`` while there is none.
        reason: why it is not better.
        restart_in: seconds after which to restart the instance, if it does not start anew or
            get well before; ``None`` to leave it alone.
    """

    health: Health | None
    reason: str = ""
    restart_in: float | None = None


class CheckMachine:
    """Judges one instance by the results of its check.

    Args:
        check: thresholds and start period.
        restart: the service's restart policy.
        backoff: waits between restarts, and whether there were too many.
        heal: whether to restart at all.
    """

    def __init__(
        self, check: Check, restart: Restart, backoff: RestartBackoff, *, heal: bool
    ) -> None:
        self._check = check
        self._restart = restart
        self._backoff = backoff
        self._heal = heal
        self._started = 0.0
        self._passes = 0
        self._failures = 0
        self._well_since: float | None = None
        self._decided: Health | None = None
        self._waiting = False

    def started(self, now: float) -> Decision:
        """The instance was started or restarted at ``now``."""
        self._started = now
        self._passes = self._failures = 0
        self._well_since = None
        self._decided = None
        self._waiting = False
        return Decision(None)

    def passed(self, now: float) -> Decision:
        """A check passed."""
        self._failures = 0
        self._passes += 1
        if self._decided is Health.HEALTHY or self._passes >= self._check.rise:
            if self._well_since is None:
                self._well_since = now
            self._backoff.after_run(now - self._well_since)
            self._decided = Health.HEALTHY
            self._waiting = False
            return Decision(Health.HEALTHY)
        needed = f"passed {self._passes} of {self._check.rise} checks in a row"
        return Decision(self._decided, needed)

    def failed(self, now: float, reason: str) -> Decision:
        """A check failed."""
        self._passes = 0
        if self._decided is None and now - self._started < self._check.start_period:
            return Decision(None, reason)
        self._failures += 1
        if self._failures < self._check.fall:
            # Not proven sick yet: what was decided before holds.
            return Decision(self._decided, "" if self._decided is Health.HEALTHY else reason)
        self._well_since = None
        restart_in = self._restart_wait()
        looping = self._backoff.crash_looping
        self._decided = Health.CRASH_LOOPING if looping else Health.UNHEALTHY
        return Decision(self._decided, reason, restart_in)

    def _restart_wait(self) -> float | None:
        if not self._heal or self._restart.policy == "never" or self._waiting:
            return None
        self._waiting = True
        return self._backoff.next_wait()
