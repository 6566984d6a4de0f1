"""One name, one node: what follows when two nodes claim one name, or stand at one address.

Whoever has the cluster key may claim any name, so nobody can prove whose it is. The rules make
one of two claimants win, the same one everywhere:

* Every node keeps whom it knew first under a name, as long as that one lives.
* A node that meets its own name at another address asks there. If somebody answers to the name,
  the younger of the two gives way: it falls silent, so that those who knew it take it for dead
  and accept the other. It speaks up again after a while, in case the other one has gone.
* Of two names at one address, the one that answers there stays: pings carry the name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from constellation_core.gossip.member import BORN_TAG, Address, Member, pack_ip
from constellation_core.gossip.timers import Timers

_TOLD_AGAIN_AFTER = 60.0
_MOST_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two nodes that cannot both be right.

    Attributes:
        what: ``name`` or ``address``.
        name: the name that is claimed.
        claimed_from: the address that claims it.
        holder: the name of the node that stays for now.
        held_from: its address.
        at: when it was last seen, in seconds of the protocol's clock.
    """

    what: str
    name: str
    claimed_from: Address
    holder: str
    held_from: Address
    at: float


class ConflictLog:
    """Remembers conflicts, so that each is told once a minute and not with every packet."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str, Address], float] = OrderedDict()
        self.last: Conflict | None = None

    def is_news(self, conflict: Conflict) -> bool:
        """Note the conflict; whether it is worth telling."""
        self.last = conflict
        key = (conflict.what, conflict.name, conflict.claimed_from)
        told = self._told.get(key)
        if told is not None and conflict.at - told < _TOLD_AGAIN_AFTER:
            return False
        self._told[key] = conflict.at
        self._told.move_to_end(key)
        if len(self._told) > _MOST_REMEMBERED:
            self._told.popitem(last=False)
        return True


def seniority(member: Member) -> tuple[int, bytes, int]:
    """Orders two claimants of a name, the elder first; the same order on every node.

    Nodes tell when they started. For those that do not, the incarnation has to do; the address
    decides between equals.
    """
    try:
        began = int(member.tags[BORN_TAG], 16)
    except (KeyError, ValueError):
        began = member.incarnation
    return (began, pack_ip(member.address[0]), member.address[1])


class GuardOutput(Protocol):
    """What the guard of a name needs."""

    def ask_for_name(self, claim: Member, answered: Callable[[], None]) -> None:
        """Ask at the claim's address whether somebody there goes by this node's name."""

    def give_way(self, claim: Member) -> None:
        """Fall silent."""

    def speak_up(self) -> None:
        """Take part again."""


class NameGuard:
    """Watches over this node's own name.

    Attributes:
        given_way_to: the elder node of this name, while this one is silent.
    """

    def __init__(self, timers: Timers, retry: float, output: GuardOutput) -> None:
        self._timers = timers
        self._retry = retry
        self._output = output
        self._asked_until = 0.0
        self.given_way_to: Member | None = None

    def claimed(self, claim: Member, local: Member) -> None:
        """Another address goes by this node's name."""
        if self.given_way_to is not None or seniority(local) < seniority(claim):
            return
        if self._timers.now < self._asked_until:
            return
        # What is said may be old: this node itself may have lived there before it moved here.
        self._asked_until = self._timers.now + self._retry / 10
        self._output.ask_for_name(claim, lambda: self._is_there(claim))

    def _is_there(self, claim: Member) -> None:
        if self.given_way_to is not None:
            return
        self.given_way_to = claim
        self._output.give_way(claim)
        self._timers.call_later(self._retry, self._try_again)

    def _try_again(self) -> None:
        self.given_way_to = None
        self._asked_until = 0.0
        self._output.speak_up()
