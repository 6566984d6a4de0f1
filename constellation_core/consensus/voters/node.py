"""This agent among the others: what it holds, what it says of itself, and how that changes."""

from __future__ import annotations

import asyncio
import logging
import math

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import ConsensusError, Role
from constellation_core.consensus.state.operations import LATEST
from constellation_core.consensus.voters.founding import Founding
from constellation_core.consensus.voters.host import Host
from constellation_core.consensus.voters.memory import Memory
from constellation_core.consensus.voters.network import Candidate, Engines, Membership, Part
from constellation_core.consensus.voters.settings import VoterSettings

log = logging.getLogger("constellation.consensus")

_ELECTION = 15.0
"""Seconds that an election takes at the very most, if it can succeed."""

GENESIS = 2
"""Entries that a new cluster's log begins with. What follows, a majority has agreed on."""


class Node:
    """One agent. What changes it is called with :attr:`lock` held.

    Args:
        settings: the agent's.
        memory: what is on its disk.
        host: runs its engine.
        membership: tells of the others.
        engines: try whether the address is free.
        clock: this machine's.

    Attributes:
        ended: nothing is to change any more.
    """

    def __init__(
        self,
        settings: VoterSettings,
        memory: Memory,
        host: Host,
        membership: Membership,
        engines: Engines,
        clock: BootClock,
    ) -> None:
        self.settings = settings
        self.memory = memory
        self.host = host
        self.lock = asyncio.Lock()
        self.ended = False
        self._membership = membership
        self._engines = engines
        self._clock = clock
        self._started = clock.boottime()
        self._tried = -math.inf
        self._led = self._started
        self.address_problem: str | None = "not tried yet"

    @property
    def part(self) -> Part:
        """What this agent is."""
        if self.memory.identity is None:
            able = self.settings.vote and self.address_problem is None
            return Part.CANDIDATE if able else Part.NONE
        running = self.host.running
        if running is None:
            return Part.FAILED
        return Part.JOINING if running.status.role is Role.JOINING else Part.VOTER

    @property
    def leaderless(self) -> bool:
        """Whether this agent's voter has known no leader for a while."""
        running = self.host.running
        if running is None or running.status.role in (Role.JOINING, Role.REMOVED):
            return False
        return self._clock.boottime() - self._led > _ELECTION

    def me(self) -> Candidate:
        """This agent, as the others see it, or will see it."""
        return Candidate(
            self.settings.name,
            self.settings.region,
            self.settings.address,
            True,
            self._started,
            self.part,
            self.settings.vote,
            self.memory.id,
            self.memory.record.cluster,
            self.settings.voters,
            LATEST,
        )

    def others(self) -> tuple[Candidate, ...]:
        """The other agents."""
        return self._membership.candidates()

    @property
    def joined(self) -> bool:
        """See :class:`~.network.Membership`."""
        return self._membership.joined

    async def end(self) -> None:
        """Stop the engine; nothing starts it again."""
        self.ended = True
        await self.host.stop()

    async def keep(self) -> None:
        """Have running what is to run, and find out what can be."""
        await self.host.check()
        if self.host.running is None or self.host.running.status.leader is not None:
            self._led = self._clock.boottime()
        due = self._clock.boottime() - self._tried >= self.settings.times.restart
        if self.memory.identity is not None:
            if self.host.running is None and (due or self.host.failure is None):
                self._tried = self._clock.boottime()
                await self.host.start()
            self._note_life()
        elif self.settings.vote and self.address_problem is not None and due:
            self._tried = self._clock.boottime()
            await self.try_address()

    async def try_address(self) -> None:
        """Find out whether the engine could listen; see ``address_problem``."""
        try:
            await self._engines.check_address()
        except ConsensusError as error:
            if self.address_problem != str(error):
                log.error("this agent cannot vote: %s", error)
            self.address_problem = str(error)
        else:
            self.address_problem = None

    async def found(self, founding: Founding) -> None:
        """Begin as one of the founders of a cluster.

        Raises:
            OSError: the files could not be written.
            ConsensusError: the files are there already.
        """
        self.memory.create(founding.cluster, founding)
        log.info("founding the cluster %s", founding.cluster)
        await self.host.start()

    async def prepare(self, cluster: str) -> None:
        """Wait to be added to a cluster; raises as :meth:`found`."""
        self.know(cluster)
        self.memory.create(cluster, None)
        await self.host.start()

    async def retire(self) -> None:
        """Become a candidate again, with a new UUID.

        Raises:
            OSError: the files could not be renamed; the voter has stopped all the same.
        """
        log.warning("this agent is no voter any more")
        await self.host.stop()
        self.host.failure = None
        self.memory.set_aside()
        await self.try_address()

    def know(self, cluster: str) -> None:
        """Remember the UUID that the cluster has now.

        Raises:
            OSError: it could not be written.
        """
        self.memory.remember(self.memory.record.belongs_to(cluster))

    def _note_life(self) -> None:
        """The cluster of this voter has come to life: from now on nobody founds another."""
        identity = self.memory.identity
        if identity is None or identity[0] == self.memory.record.cluster:
            return
        seen = any(each.cluster == identity[0] for each in self.others())
        running = self.host.running
        if seen or (running is not None and running.status.commit_index > GENESIS):
            self.know(identity[0])
            log.info("the cluster %s has come to life", identity[0])
