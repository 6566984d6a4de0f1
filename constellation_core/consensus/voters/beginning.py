"""Carries out what :mod:`.bootstrap` decides, and sees to it that all founders begin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.voters.asking import Asking
from constellation_core.consensus.voters.bootstrap import Adopt, Found, View, Wait, decide
from constellation_core.consensus.voters.founding import (
    Founder,
    Founding,
    RefusedError,
    check_write,
    hopeless,
    promise,
    propose,
)
from constellation_core.consensus.voters.network import Candidate, Part, UnreachableError
from constellation_core.consensus.voters.node import GENESIS, Node
from constellation_core.consensus.voters.wire import Form, Promise, Reply, Request

log = logging.getLogger("constellation.consensus")


class Beginning:
    """What an agent does until it knows a cluster, and a founder until all have begun.

    Args:
        node: this agent.
        asking: asks other agents.
        clock: this machine's.
        new_id: makes a UUID.

    Attributes:
        doing: what it does or waits for, in a sentence.
    """

    def __init__(
        self, node: Node, asking: Asking, clock: BootClock, new_id: Callable[[], str]
    ) -> None:
        self._node = node
        self._asking = asking
        self._clock = clock
        self._new_id = new_id
        self._seen: object = None
        self._since = clock.boottime()
        self._order = 0
        self._blocking: dict[frozenset[str], Founding] = {}
        self._promised: set[tuple[str, str]] = set()
        self.doing = ""

    async def turn(self) -> None:
        """One look at how things stand, for an agent that holds nothing and knows no cluster.

        Raises:
            OSError: something could not be written.
            ConsensusError: something cannot be done.
        """
        me, others = self._node.me(), self._node.others()
        action = decide(
            View(
                me, others, self._node.joined, self._calm(others), self._node.settings.times.settle
            )
        )
        match action:
            case Wait(reason):
                self.doing = reason
            case Adopt(cluster):
                async with self._node.lock:
                    self._node.know(cluster)
            case Found(founders):
                self.doing = "asking the other founders to found a cluster"
                await self._found(founders)

    async def tell(self) -> None:
        """Have the founders begin that have not: for one that has, until all are there.

        If so many never will that the cluster cannot come to life, this founder begins anew.

        Raises:
            OSError: something could not be written.
        """
        founding, running = self._node.memory.founding, self._node.host.running
        if founding is None or running is None:
            return
        lives = self._node.memory.record.cluster == founding.cluster
        voters = {each.id for each in running.status.voters}
        agents = {each.name: each for each in self._node.others() if each.alive}
        waiting = [
            each
            for each in founding.founders
            if each.name in agents
            and not (lives and (agents[each.name].part is not Part.CANDIDATE))
            and each.id in voters
        ]
        replies = await self._ask(waiting, Form(founding))
        never = frozenset(e.id for e in waiting if (r := replies[e.name]) is not None and r.never)
        await self._begin_anew(founding, never)

    async def _begin_anew(self, founding: Founding, never: frozenset[str]) -> None:
        async with self._node.lock:
            running, memory = self._node.host.running, self._node.memory
            if self._node.ended or running is None or founding != memory.founding:
                return
            # Who has nothing but the beginning in its log has acknowledged nothing.
            empty = running.status.last_index <= GENESIS and memory.record.cluster is None
            if empty and hopeless(founding, never):
                log.warning("the founding of %s has failed", founding.cluster)
                await self._node.retire()
                promises = tuple(each for each in memory.record.promises if each != founding)
                memory.remember(replace(memory.record, promises=promises))

    async def _found(self, founders: tuple[Founder, ...]) -> None:
        node, memory = self._node, self._node.memory
        async with node.lock:
            founding = propose(
                self._new_id(),
                founders,
                self._witnesses(founders),
                memory.record.promises,
                self._order,
            )
            try:
                promises = promise(memory.id, memory.record.promises, founding)
            except RefusedError as refused:
                self._note(refused.order, refused.blocking)
                self.doing = f"cannot found a cluster yet: {refused}"
                return
            memory.remember(replace(memory.record, promises=promises))
        if not await self._all_promise(founding):
            return
        async with node.lock:
            if node.ended or memory.identity is not None or memory.record.cluster is not None:
                return
            try:
                check_write(memory.id, memory.record.promises, founding)
            except RefusedError as refused:
                self.doing = f"cannot found a cluster yet: {refused}"
                return
            await node.found(founding)
        await self._ask(founders[1:], Form(founding))

    def _witnesses(self, founders: tuple[Founder, ...]) -> tuple[Founder, ...]:
        """Who is alive of those that have promised what is in the way."""
        alive = {each.id for each in self._node.others() if each.alive}
        alive -= {each.id for each in founders}
        needed = {
            each.id: each for founding in self._blocking.values() for each in founding.founders
        }
        return tuple(sorted(needed[each] for each in needed.keys() & alive))

    async def _all_promise(self, founding: Founding) -> bool:
        asked = (*founding.founders[1:], *founding.witnesses)
        # Who promised it once need not be asked again: see the rules.
        self._promised = {each for each in self._promised if each[0] == founding.cluster}
        left = [each for each in asked if (founding.cluster, each.id) not in self._promised]
        replies = await self._ask(left, Promise(founding))
        missing = ""
        for each in left:
            reply = replies[each.name]
            if reply is not None and reply.done:
                self._promised.add((founding.cluster, each.id))
                continue
            why = reply.reason if reply is not None else "it does not answer"
            missing = missing or f"{each.name} does not agree to found a cluster yet: {why}"
            if reply is not None:
                self._note(reply.order, reply.blocking)
        self.doing = missing or self.doing
        return not missing

    def _note(self, order: int, blocking: Founding | None) -> None:
        self._order = max(self._order, order)
        if blocking is not None:
            self._blocking[blocking.ids] = blocking

    async def _ask(self, founders: Iterable[Founder], request: Request) -> dict[str, Reply | None]:
        """Ask these agents at the same time; ``None`` for who gave no answer."""
        replies: dict[str, Reply | None] = {}

        async def one(founder: Founder) -> None:
            try:
                replies[founder.name] = await self._asking.ask(founder.name, request)
            except UnreachableError:
                replies[founder.name] = None

        async with asyncio.TaskGroup() as tasks:
            for each in founders:
                tasks.create_task(one(each))
        return replies

    def _calm(self, others: tuple[Candidate, ...]) -> float:
        """Seconds since anything changed of who could found a cluster."""
        seen = frozenset(replace(each, since=0.0) for each in others)
        now = self._clock.boottime()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since
