"""When to try again: exponential backoff with jitter, and when to call it a crash loop."""

from __future__ import annotations

from random import Random

from constellation_core.model.service import Restart

_JITTER = 0.1


class RestartBackoff:
    """Decides the waits between the restarts of one instance.

    Args:
        policy: the service's restart policy, which says what the numbers mean.
        rng: jitter comes from it, so that instances that died together do not start together.
    """

    def __init__(self, policy: Restart, rng: Random) -> None:
        self._policy = policy
        self._rng = rng
        self._recent = 0

    @property
    def crash_looping(self) -> bool:
        """Whether there were too many restarts without a calm run in between."""
        return self._recent >= self._policy.crash_loop_after

    def after_run(self, seconds: float) -> None:
        """An instance ran well for so long; a calm run forgets the earlier restarts."""
        if seconds >= self._policy.reset_after:
            self._recent = 0

    def next_wait(self) -> float:
        """Seconds to wait before the next restart, which is counted."""
        # The exponent is bounded: 2 ** 2000 is not a float.
        delay = self._policy.delay * 2.0 ** min(self._recent, 32)
        self._recent += 1
        wait = min(self._policy.max_delay, delay)
        return wait * (1 + _JITTER * (2 * self._rng.random() - 1))
