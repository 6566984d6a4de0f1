"""Which node gets the next instance of a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush, heapreplace
from typing import TypeAlias

_Key: TypeAlias = tuple[int, ...]


class Picker:
    """Gives instances of one service to nodes, one after the other.

    The next one goes to the node whose domains have the fewest instances, the most important
    ``spread`` first; among these, to the one that is preferred most; then, to the one with the
    fewest instances; then, to the one that ranks highest.

    Args:
        ranked: the nodes, the most preferred first, and among equals the highest rank first.
        preference: of each node.
        domains: for each ``spread`` the domain of each node.
        counts: instances that nodes have already.
    """

    def __init__(
        self,
        ranked: Sequence[int],
        preference: Sequence[int],
        domains: Sequence[Sequence[int]],
        counts: Mapping[int, int],
    ) -> None:
        self._ranked = ranked
        self._preference = preference
        self._domains = domains
        self._here = dict(counts)
        self._there: list[dict[int, int]] = [{} for _ in domains]
        for node, count in counts.items():
            self._count(node, count)

    def pick(self, wanted: int, take: Callable[[int], bool]) -> None:
        """Give ``wanted`` instances to nodes, or as many as they take.

        A node's key only grows, so a key in the heap that is out of date is at most too small:
        it is put right when it comes to the top.

        Args:
            wanted: how many.
            take: whether the node takes one; one that does not is not asked again.
        """
        ranked = self._ranked
        waiting: list[_Key] = []
        fresh = 0
        while wanted:
            # In domains without an instance, nodes without one come in the order of their rank.
            while fresh < len(ranked) and self._is_used(ranked[fresh]):
                heappush(waiting, self._key(fresh))
                fresh += 1
            if not self._comes_first(fresh, waiting):
                if not waiting:
                    return
                place = heappop(waiting)[-1]
            else:
                place = fresh
                fresh += 1
            node = ranked[place]
            if take(node):
                wanted -= 1
                self._here[node] = self._here.get(node, 0) + 1
                self._count(node, 1)
                if wanted:
                    heappush(waiting, self._key(place))

    def _comes_first(self, fresh: int, waiting: list[_Key]) -> bool:
        """Whether the fresh node is before all that wait; puts right who waits first."""
        is_there = fresh < len(self._ranked)
        if is_there and (not waiting or (self._domains and waiting[0][0])):
            # Its first domain is empty, that of all who wait is not: no need to look closer.
            return True
        while waiting and (key := self._key(waiting[0][-1])) != waiting[0]:
            heapreplace(waiting, key)
        return is_there and self._key(fresh) < waiting[0]

    def _is_used(self, node: int) -> bool:
        if node in self._here:
            return True
        for domain, counts in zip(self._domains, self._there, strict=True):
            if domain[node] in counts:
                return True
        return False

    def _key(self, place: int) -> _Key:
        node = self._ranked[place]
        preference, here = -self._preference[node], self._here.get(node, 0)
        if len(self._domains) == 1:
            there = self._there[0].get(self._domains[0][node], 0)
            return (there, preference, here, place)
        pairs = zip(self._domains, self._there, strict=True)
        spread = (counts.get(domain[node], 0) for domain, counts in pairs)
        return (*spread, preference, here, place)

    def _count(self, node: int, number: int) -> None:
        for domain, counts in zip(self._domains, self._there, strict=True):
            counts[domain[node]] = counts.get(domain[node], 0) + number
