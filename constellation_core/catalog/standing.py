"""What the membership says of an owner, and what its rows are worth for that.

Which life of a node is the present one is told by the node itself, in its metadata; the
membership's rules see to it that nobody else can say that for long. Rows of any other life are
not taken, whoever tells of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from constellation_core.gossip.member import Member, decode_tags
from constellation_core.model.health import Health
from constellation_core.model.node import Node, NodeState

EPOCH_TAG = "epoch"
"""Metadata of a node: the epoch of its rows, in hexadecimal. Other rows are not believed."""

AHEAD = 300
"""Seconds that an epoch may be ahead of the wall clock: so much may clocks differ."""


def epoch_of(member: Member) -> int | None:
    """The epoch of the rows that a member publishes now; ``None`` when it publishes none."""
    return _epoch_in(member.meta)


@lru_cache(maxsize=4096)
def _epoch_in(meta: bytes) -> int | None:
    try:
        epoch = int(decode_tags(meta)[EPOCH_TAG], 16)
    except (KeyError, ValueError):
        return None
    return epoch if 0 < epoch < 2**63 else None


def with_epoch(tags: Mapping[str, str], epoch: int) -> dict[str, str]:
    """A node's metadata with the epoch of its rows."""
    return {**tags, EPOCH_TAG: f"{epoch:x}"}


def plausible(epoch: int, now: float, others: Iterable[int]) -> bool:
    """Whether an epoch, which is the wall clock of a start, lies in the past.

    Where more than half of the others' lie ahead as well, it is this node's clock that is wrong,
    and nothing can be said.

    Args:
        epoch: of the node in question.
        now: this node's wall clock.
        others: the epochs of all other nodes, this one among them unless it is in question.
    """
    latest = now + AHEAD
    if epoch <= latest:
        return True
    ahead = [other > latest for other in others]
    return 2 * sum(ahead) > len(ahead)


def ceiling(member: Member | None, name: str, epoch: int) -> tuple[Health, str]:
    """The best health that instances of a member can have, and why.

    Args:
        member: the owner, if it is known.
        name: its name.
        epoch: the life that its rows are from.
    """
    if member is None:
        return Health.UNREACHABLE, f"node {name} is unknown"
    if not member.online:
        word = "has left" if member.state is NodeState.LEFT else "is dead"
        return Health.UNREACHABLE, f"node {name} {word}"
    if epoch_of(member) != epoch:
        return Health.UNREACHABLE, f"node {name} has started anew"
    if member.state is NodeState.SUSPECT:
        return Health.SUSPECT, f"node {name} does not answer"
    return Health.HEALTHY, ""


def node_of(member: Member) -> Node:
    """A member of the gossip, in the words of the model."""
    return Node(
        member.name,
        member.address[0],
        member.address[1],
        member.state,
        member.incarnation,
        dict(member.tags),
    )
