"""What of others' words can be believed: checked for each word by itself.

memberlist checks the versions of all members together, so that one bad node keeps every other
from joining. Here it keeps out only itself.
"""

from __future__ import annotations

from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.member import Member, is_everywhere, unpack_ip
from constellation_core.gossip.messages import VERSION_LENGTH, Alive
from constellation_core.model.node import NodeState

MOST_ACCUSED = 0xFFFF_0000
"""No node is accused in a higher incarnation. Who counts up to it by lying leaves the accused
room to contradict; the wall clock, where incarnations begin, is there in the year 2106."""
MOST_CLAIMED = MOST_ACCUSED + 0x8000
"""No node claims a higher incarnation of itself."""


class NotBelievedError(Exception):
    """Why a word is not believed, for the operator."""


def member_of(message: Alive, config: GossipConfig, now: float) -> Member:
    """The member that ``message`` says is alive.

    Raises:
        NotBelievedError: when it cannot be a member that we talk to.
    """
    who = message.node or "a node"
    if not who.isprintable():
        # It would be written into logs and to terminals, which obey some of it.
        raise NotBelievedError(f"{who!r}: a name that cannot be printed")
    if not message.node or message.port == 0:
        raise NotBelievedError(f"{who}: no name or no port")
    if message.incarnation > MOST_CLAIMED:
        raise NotBelievedError(f"{who}: incarnation {message.incarnation} is beyond all numbers")
    try:
        host = unpack_ip(message.address)
    except ValueError:
        raise NotBelievedError(f"{who}: its address is not an IP address") from None
    if is_everywhere(host):
        # Whoever sent something there would talk to itself.
        raise NotBelievedError(f"{who}: nobody can reach {host}")
    problem = _version_problem(config, message.versions)
    if problem:
        raise NotBelievedError(f"{who}: {problem}")
    return Member(
        message.node,
        (host, message.port),
        message.incarnation,
        NodeState.ALIVE,
        now,
        message.meta,
        message.versions,
    )


def is_answerable(accused_in: int, known: Member) -> bool:
    """Whether an accusation in this incarnation leaves the accused room to contradict."""
    return accused_in <= max(MOST_ACCUSED, known.incarnation)


def _version_problem(config: GossipConfig, versions: bytes) -> str:
    """Why we cannot talk to a node with these versions; ``""`` when we can."""
    if len(versions) != VERSION_LENGTH:
        return "it does not say which protocol it speaks"
    pairs = (
        ("protocol", versions[:3], config.protocol_versions),
        ("delegate protocol", versions[3:], config.delegate_versions),
    )
    for what, (lowest, highest, current), ours in pairs:
        if not lowest <= current <= highest:
            return f"its {what} {current} is outside its own range {lowest} to {highest}"
        if not lowest <= ours[2] <= highest or not ours[0] <= current <= ours[1]:
            return f"its {what} {current} ({lowest} to {highest}) does not fit ours ({ours[2]})"
    return ""
