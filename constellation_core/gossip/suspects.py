"""The suspicions that are running, and when each comes to its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.suspicion import Suspicion, suspicion_times
from constellation_core.gossip.timers import Timer, Timers

_LAST_WORDS = 50.0
"""So many nodes, on average, ask a suspect directly before they declare it dead. In larger
clusters, which send all news on more often, each objection reaches everybody anyway."""


@dataclass(slots=True)
class _Running:
    suspicion: Suspicion
    timer: Timer
    nodes: int
    asked: float | None = None
    verdict: bool = False


class Suspects:
    """Who is suspected, and how long each has left.

    Args:
        config: how long suspicions last.
        timers: the time.
        rng: all chance comes from it.
        ask: called with a name shortly before its time is over: it may still object.
        expire: called with a name when its time is over.
    """

    def __init__(
        self,
        config: GossipConfig,
        timers: Timers,
        rng: Random,
        ask: Callable[[str], None],
        expire: Callable[[str], None],
    ) -> None:
        self._config = config
        self._timers = timers
        self._rng = rng
        self._ask = ask
        self._expire = expire
        self._running: dict[str, _Running] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def begin(self, name: str, source: str, nodes: int) -> int:
        """``source`` suspects ``name``, in a cluster of ``nodes``.

        Returns:
            How many others should confirm it.
        """
        config = self._config
        shortest, longest = suspicion_times(
            config.suspicion_multiplier,
            config.suspicion_most_multiplier,
            nodes,
            config.probe_interval,
        )
        expected = max(0, math.ceil(config.suspicion_multiplier - 2))
        # Where too few others are left to confirm, waiting for them would only cost time.
        if nodes - 2 < expected:
            expected = 0
        suspicion = Suspicion(self._timers.now, source, shortest, longest, expected)
        timer = self._timers.call_at(suspicion.deadline, lambda: None)
        self._running[name] = running = _Running(suspicion, timer, nodes)
        self._schedule(name, running)
        return expected

    def hasten(self, name: str) -> None:
        """Somebody says that ``name`` is dead: ask it at once, and wait for its answer only."""
        running = self._running[name]
        running.verdict = True
        if running.asked is None:
            self._hear(name, running, always=True)
        else:
            self._schedule(name, running)

    def confirm(self, name: str, source: str) -> bool:
        """``source`` suspects ``name`` too; whether that is worth telling others."""
        running = self._running[name]
        if not running.suspicion.confirm(source):
            return False
        self._schedule(name, running)
        return True

    def end(self, name: str) -> None:
        """``name`` is suspected no more; harmless when it was not."""
        running = self._running.pop(name, None)
        if running is not None:
            running.timer.cancel()

    def postpone(self, seconds: float) -> None:
        """Give all more time: this process was not running for so long."""
        for name, running in self._running.items():
            running.suspicion.postpone(seconds)
            running.asked = None
            self._schedule(name, running)

    def _schedule(self, name: str, running: _Running) -> None:
        running.timer.cancel()
        deadline = running.suspicion.deadline
        if running.asked is None:
            ask_at = max(self._timers.now, deadline - self._config.probe_interval)
            running.timer = self._timers.call_at(ask_at, lambda: self._hear(name, running))
        else:
            # However late a confirmation comes, there is time for the suspect to answer.
            heard = running.asked + self._config.probe_timeout
            end = heard if running.verdict else max(deadline, heard)
            running.timer = self._timers.call_at(end, lambda: self._expire(name))

    def _hear(self, name: str, running: _Running, *, always: bool = False) -> None:
        """Ask the suspect before the verdict: its objection may have been lost on its way here."""
        running.asked = self._timers.now
        if always or self._rng.random() * running.nodes < _LAST_WORDS:
            self._ask(name)
        self._schedule(name, running)
