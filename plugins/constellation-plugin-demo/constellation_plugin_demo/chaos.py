"""Kills nodes with all that runs on them, watches the traffic move, and brings them back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from constellation_core.testing.cluster import NodeEndedError
from constellation_core.testing.waiting import NotInTimeError, until
from constellation_plugin_demo.fleet import DemoFleet

_REROUTE_TIMEOUT = 30.0
_HEAL_TIMEOUT = 60.0
_DOWN_AT_LEAST = 3.0
_LONGEST_CALM = 5.0
_POLL = 0.02


@dataclass(slots=True)
class ChaosLog:
    """What was done to the fleet, and how it took it.

    Attributes:
        kills: nodes that were killed.
        reroute_seconds: for each kill, in order: from SIGKILL until Traefik itself listed no
            instance of the killed node any more.
        down: the node that is dead now, or ``""``.
        not_healed: what went wrong, in words; empty when nothing did.
    """

    kills: int = 0
    reroute_seconds: list[float] = field(default_factory=list)
    down: str = ""
    not_healed: list[str] = field(default_factory=list)


class Chaos:
    """Kills one node after the other, never two at a time.

    The node that Traefik asks is spared: it stands for Traefik's own host, and without that
    host there is nobody to send requests to.

    Args:
        fleet: what it acts on.
        tell: takes a line for people about each step.
        rng: chooses the victims.
        calm: seconds between the healing of one kill and the next kill, at most 5.
    """

    def __init__(
        self, fleet: DemoFleet, tell: Callable[[str], None], rng: Random, calm: float
    ) -> None:
        self._fleet = fleet
        self._tell = tell
        self._rng = rng
        self._calm = min(calm, _LONGEST_CALM)
        self.log = ChaosLog()

    async def run(self, stop: asyncio.Event) -> None:
        """Kill and bring back until ``stop`` is set; leaves with all nodes running.

        At least one node is killed, so that a short demo shows what it is to show.
        """
        for _ in itertools.count():
            await _pause(self._calm, stop)
            if stop.is_set() and self.log.kills:
                return
            victim = self._rng.choice([n for n in self._fleet.names if n != self._fleet.asked.name])
            await self._kill(victim)
            await _pause(_DOWN_AT_LEAST, stop)
            await self._bring_back(victim)

    async def _kill(self, victim: str) -> None:
        loop = asyncio.get_running_loop()
        fleet, log = self._fleet, self.log
        self._tell(f"kill -9 {victim} and its service")
        began = loop.time()
        log.kills += 1
        log.down = victim
        await fleet.cluster.kill(victim)

        async def gone() -> bool:
            return victim not in await fleet.routed()

        try:
            await until(gone, _REROUTE_TIMEOUT, f"Traefik to leave {victim}", interval=_POLL)
        except (NotInTimeError, OSError) as error:
            log.not_healed.append(str(error))
            self._tell(str(error))
            return
        took = loop.time() - began
        log.reroute_seconds.append(round(took, 3))
        self._tell(f"traffic goes without {victim} since {took:.1f} s after the kill")

    async def _bring_back(self, victim: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._fleet.cluster.start_node(victim)
            self.log.down = ""
            self._tell(f"{victim} starts again")
            await self._fleet.wait_until_whole(_HEAL_TIMEOUT)
        except (NotInTimeError, NodeEndedError, OSError) as error:
            self.log.not_healed.append(str(error))
            self._tell(str(error))
            return
        self._tell(f"{victim} is back in the traffic after {loop.time() - began:.1f} s")


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
