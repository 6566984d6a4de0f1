"""Flap damping: failures are told at once, recoveries no faster than every few seconds.

An instance that fails and recovers all the time would have every node change its proxy all the
time. So after an instance was told to serve, it is told so again only after ``hold`` seconds;
until then it stays out. That it fails is never held back. In any time ``t`` an instance is told of
at most ``6 * (t / hold + 1) + 1`` times, however its health changes and however often it comes and
goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from constellation_core.catalog.urgency import moved
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance

FLAPS = "changes too often: not told to be well before it stays so for a while"
"""The reason of an instance that is held back, on every node."""


@dataclass(slots=True)
class Damper:
    """What may be told of one instance.

    Attributes:
        hold: seconds between two times that it is told to serve.
        told: what the others were told last; ``None`` for nothing, or that it is gone.
        wanted: how it is.
    """

    hold: float
    told: Instance | None = None
    wanted: Instance | None = None
    _up: float = -math.inf
    _other: float = -math.inf
    _notice: float = -math.inf
    _version: str = ""

    def want(self, wanted: Instance | None, now: float) -> bool:
        """It is so now; returns whether :attr:`told` changed."""
        if wanted is not None and wanted.version != self._version:
            # Another definition: that is an operator at work, and no flapping.
            self._version = wanted.version
            self._up = self._other = self._notice = -math.inf
        self.wanted = wanted
        return self.step(now)

    def step(self, now: float) -> bool:
        """Tell what may be told by now; returns whether :attr:`told` changed."""
        before, wanted = self.told, self.wanted
        if wanted == before:
            return False
        if wanted is None or (_serves(before) and not wanted.health.serves):
            self.told = wanted
        elif self._is_up(wanted):
            if now >= self._up + self.hold:
                self._up, self.told = now, wanted
            elif _serves(before):
                # It moved, and where it was is nothing any more.
                self.told = self._held_back(wanted)
            elif self._held_back(wanted) != before and now >= self._notice + self.hold:
                self._notice, self.told = now, self._held_back(wanted)
        elif now >= self._other + self.hold:
            self._other, self.told = now, wanted
        return self.told != before

    @property
    def due(self) -> float:
        """When :meth:`step` will tell something; infinite when there is nothing to tell."""
        wanted = self.wanted
        if wanted is None or wanted == self.told:
            return math.inf
        if not self._is_up(wanted):
            return self._other + self.hold
        if self._held_back(wanted) == self.told:
            return self._up + self.hold
        return min(self._up, self._notice) + self.hold

    @property
    def holds_back(self) -> bool:
        """Whether it serves and the others are not told so yet."""
        return self.wanted is not None and self._is_up(self.wanted)

    def idle(self, now: float) -> bool:
        """Whether nothing is told and nothing would be held back: it can be forgotten."""
        gone = self.told is None and self.wanted is None
        return gone and now >= max(self._up, self._other, self._notice) + self.hold

    def _is_up(self, wanted: Instance) -> bool:
        told = self.told
        if not wanted.health.serves:
            return False
        return told is None or not told.health.serves or moved(told, wanted)

    def _held_back(self, wanted: Instance) -> Instance:
        told = self.told
        health = told.health if told is not None and not _serves(told) else Health.UNHEALTHY
        return replace(wanted, health=health, reason=FLAPS)


def _serves(instance: Instance | None) -> bool:
    return instance is not None and instance.health.serves
