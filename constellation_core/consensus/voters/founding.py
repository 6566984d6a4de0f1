"""Who founds a cluster together, and which promises keep two clusters from being founded.

There is no cluster yet whose majority could decide, so those who are to found it decide
unanimously. A *founding* is a cluster UUID with the list of its first voters. The first of them
proposes it; each promises it, durably, before anything is written; then the first writes its
voter's directory, and the others theirs when they are told. A cluster comes to life when a
majority of its founders have written theirs. A founding may have *witnesses*, who promise it too
and are no founders.

The first may die between any two of these steps, and the others must not wait for it for ever.
So a promise can be followed by another one, by these rules:

1. The later founding has a higher order. It is drawn above all that its proposer has heard of.
2. A majority of the founders of every earlier founding that was promised are among the founders
   and witnesses of the later one.
3. A founder writes its directory only for the founding that it promised last, or for one that is
   known to have come to life. Who has written one promises nothing any more.

Thus of two foundings that an agent is part of at most one comes to life. Let all have promised the
later one, or it is never written. That agent has promised the earlier one before, or it never
will (rule 1), and the earlier one is never written. If it has, a majority of the earlier one's
founders have promised the later one (rule 2). They had written nothing then, and do not write for
the earlier one since unless it came to life without them (rule 3): it lacks a majority for ever.
This is the reasoning of Paxos (Lamport, "Paxos Made Simple", 2001), with unanimity in place of a
quorum in the first phase.

Two foundings that have nobody in common are not excluded: who knows nothing of each other can
found two clusters. See :mod:`.bootstrap` for what is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constellation_core.consensus.interface import Voter
from constellation_core.consensus.voters.network import Candidate

_MAX_PROMISES = 64


@dataclass(frozen=True, slots=True, order=True)
class Founder:
    """An agent that is to found a cluster: its name, candidate id, and engine's address."""

    name: str
    id: str
    address: str


@dataclass(frozen=True, slots=True)
class Founding:
    """A cluster that is to be.

    Attributes:
        order: of two foundings, the later one has the higher.
        cluster: its UUID, made for this founding.
        founders: by name; the first one proposes it.
        witnesses: by name; none of the founders.
    """

    order: int
    cluster: str
    founders: tuple[Founder, ...]
    witnesses: tuple[Founder, ...] = ()

    @property
    def rank(self) -> tuple[int, str]:
        """What orders all foundings: no two have the same."""
        return self.order, self.cluster

    @property
    def ids(self) -> frozenset[str]:
        """The founders' candidate ids."""
        return frozenset(each.id for each in self.founders)

    @property
    def bound(self) -> frozenset[str]:
        """The candidate ids of those who are to promise it."""
        return self.ids | {each.id for each in self.witnesses}

    @property
    def voters(self) -> tuple[Voter, ...]:
        """The founders as voters."""
        return tuple(Voter(each.id, each.address) for each in self.founders)


class RefusedError(Exception):
    """An agent does not do what it was asked.

    Attributes:
        order: of a promise: the highest order that was promised before, which a later founding
            must exceed.
        blocking: of a promise: what was promised before, and is in the way by rule 2.
        never: it will not do so later either.
    """

    def __init__(
        self,
        reason: str,
        order: int = 0,
        blocking: Founding | None = None,
        *,
        never: bool = False,
    ) -> None:
        super().__init__(reason)
        self.order = order
        self.blocking = blocking
        self.never = never


def founders(candidates: Iterable[Candidate]) -> tuple[Founder, ...]:
    """Candidates as founders, by name."""
    return tuple(sorted(Founder(each.name, each.id, each.address) for each in candidates))


def propose(
    cluster: str,
    who: tuple[Founder, ...],
    witnesses: tuple[Founder, ...],
    promises: tuple[Founding, ...],
    order: int,
) -> Founding:
    """The founding to ask for: the one that was promised last, if it is the same one.

    Args:
        cluster: a new UUID, used if the founding is a new one.
        who: the founders.
        witnesses: who else is to promise it.
        promises: what this agent, which is the first of them, has promised.
        order: the highest that others are known to have promised instead.
    """
    for last in promises[-1:]:
        if (last.founders, last.witnesses) == (who, witnesses) and last.order > order:
            return last
    above = max(order, *(each.order for each in promises), 0) + 1
    return Founding(above, cluster, who, witnesses)


def promise(me: str, promises: tuple[Founding, ...], asked: Founding) -> tuple[Founding, ...]:
    """The promises of an agent that has written nothing, after it promised ``asked`` as well.

    They must be durable before anybody is told.

    Args:
        me: its candidate id.
        promises: earlier ones, the last one last.
        asked: what it is to promise.

    Raises:
        RefusedError: the rules forbid it.
    """
    if me not in asked.bound:
        raise RefusedError("it names another id for this agent")
    if not promises:
        return (asked,)
    last = promises[-1]
    if asked == last:
        return promises
    if not last.rank < asked.rank:
        raise RefusedError("a later founding was promised already", last.order)
    # Nobody else writes first: what this agent proposed itself, and did not write, never is.
    binding = [each for each in promises if each.founders[0].id != me]
    for each in binding:
        if 2 * len(each.ids & asked.bound) <= len(each.ids):
            names = ", ".join(founder.name for founder in each.founders)
            reason = f"a founding by {names} was promised, and may still come to be"
            raise RefusedError(reason, last.order, each)
    # Of those by the same founders one says as much as all.
    kept = tuple(each for each in binding if each.ids != asked.ids)
    if len(kept) >= _MAX_PROMISES:
        raise RefusedError("too many foundings were promised", last.order)
    return (*kept, asked)


def check_write(
    me: str, promises: tuple[Founding, ...], told: Founding, *, lives: bool = False
) -> None:
    """Whether an agent that has written nothing may write its directory for ``told``.

    Args:
        me: its candidate id.
        promises: what it has promised, the last one last.
        told: what it is told to write.
        lives: that cluster is known to have come to life.

    Raises:
        RefusedError: it may not.
    """
    if me not in told.ids:
        raise RefusedError("the founder that is meant is not here any more", never=True)
    if not lives and (not promises or promises[-1] != told):
        never = bool(promises) and promises[-1].rank > told.rank
        raise RefusedError("this agent has not promised that, or another since", never=never)


def hopeless(founding: Founding, never: frozenset[str]) -> bool:
    """Whether too many founders never write for a founding for it to come to life.

    Args:
        founding: a founding.
        never: ids of the founders that never do.
    """
    return 2 * len(founding.ids - never) <= len(founding.ids)
