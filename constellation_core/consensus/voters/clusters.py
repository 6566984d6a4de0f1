"""What happens when a cluster UUID turns up that is not this agent's.

A cluster gets another UUID when it is recovered or restored, and agents that knew it before
follow. Any other UUID is that of another cluster: nothing that has to do with the two can be put
together again, so both refuse each other, and somebody has to decide.
"""

from __future__ import annotations

import logging

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.voters.asking import Asking
from constellation_core.consensus.voters.network import Candidate, Part, UnreachableError
from constellation_core.consensus.voters.node import Node
from constellation_core.consensus.voters.wire import Ask, Reply

log = logging.getLogger("constellation.consensus")


class Clusters:
    """Looks at the cluster UUIDs of the others.

    Args:
        node: this agent.
        asking: asks other agents.
        clock: this machine's.

    Attributes:
        problems: what somebody should look after.
    """

    def __init__(self, node: Node, asking: Asking, clock: BootClock) -> None:
        self._node = node
        self._asking = asking
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._obsolete: str | None = None
        self.problems: tuple[str, ...] = ()

    async def turn(self) -> None:
        """One look, for an agent that knows a cluster, or holds data of one.

        Raises:
            OSError: something could not be written.
        """
        for cluster, agents in sorted(self._foreign().items()):
            if cluster not in self._node.memory.record.former and self._due(cluster):
                await self._compare(cluster, agents)
        self.problems = tuple(self._describe())

    @property
    def _mine(self) -> str | None:
        memory = self._node.memory
        if memory.record.cluster is None and memory.identity is not None:
            return memory.identity[0]
        return memory.record.cluster

    def _foreign(self) -> dict[str, list[Candidate]]:
        """The agents that are alive and know another cluster, by that."""
        found: dict[str, list[Candidate]] = {}
        for each in self._node.others():
            if each.alive and each.cluster is not None and each.cluster != self._mine:
                found.setdefault(each.cluster, []).append(each)
        return found

    def _due(self, cluster: str) -> bool:
        now = self._clock.boottime()
        if now < self._asked.get(cluster, now):
            return False
        self._asked[cluster] = now + self._node.settings.times.restart
        return True

    async def _compare(self, cluster: str, agents: list[Candidate]) -> None:
        """Ask one of them, best a voter, whether this agent's cluster has become theirs."""
        agents.sort(key=lambda each: (each.part is not Part.VOTER, each.name))
        try:
            reply = await self._asking.ask(agents[0].name, Ask())
        except UnreachableError:
            return
        async with self._node.lock:
            if self._node.ended:
                return
            if self._mine in reply.former and reply.cluster == cluster:
                await self._follow(cluster, reply)

    async def _follow(self, cluster: str, reply: Reply) -> None:
        if self._node.part in (Part.VOTER, Part.FAILED):
            self._obsolete = cluster
            return
        if self._node.memory.identity is not None:
            # It only waited to be added.
            await self._node.retire()
        for each in (*reply.former, cluster):
            self._node.know(each)
        log.warning("the cluster was recovered and is %s now", cluster)

    def _describe(self) -> list[str]:
        memory = self._node.memory
        found = [
            f"{each.name} says that it is this agent's voter too: one data directory is a copy of"
            " the other, and what is acknowledged may be lost. Stop the copy, and clear its"
            " consensus directory"
            for each in self._node.others()
            if each.alive and memory.identity is not None and each.id == memory.id
        ]
        for cluster, agents in sorted(self._foreign().items()):
            names = ", ".join(sorted(each.name for each in agents))
            if cluster == self._obsolete:
                found.append(
                    f"The cluster was recovered and is {cluster} now ({names}), but this agent"
                    f" holds data from before. Stop it, move {memory.places.voter} away, and start"
                    " it again"
                )
            elif cluster in memory.record.former:
                found.append(
                    f"{names} {'has' if len(agents) == 1 else 'have'} not followed the cluster"
                    " since it was recovered"
                )
            else:
                found.append(
                    f"Two clusters meet: {names} belong to {cluster}, this agent to"
                    f" {self._mine}. They share nothing: decide for one, and clear the"
                    " consensus directory on all agents of the other"
                )
        return found
