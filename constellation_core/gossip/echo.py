"""How others see this node's address: a question over TCP that only our own nodes answer.

A node that is bound to all addresses has to tell others one of them, and what looks right from
inside can be wrong from outside: a container bridge, the wrong network card, an address behind
NAT. So it asks those whom it wants to join where the question came from. Other memberlist nodes
take the question for a message of their application and do not answer.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from constellation_core.gossip.member import pack_ip, unpack_ip

ID_LENGTH = 8
_QUESTION = 0xE8
_ANSWER = 0xE9


@dataclass(frozen=True, slots=True)
class Echo:
    """What one peer answered.

    Attributes:
        peer: who was asked, ``HOST:PORT``.
        local: the address of ours from which it was asked.
        seen: the address that it saw.
    """

    peer: str
    local: str
    seen: str


@dataclass(frozen=True, slots=True)
class AddressChoice:
    """The address to tell others.

    Attributes:
        host: an IP literal.
        warning: what the operator should know about it; empty when all is well.
    """

    host: str
    warning: str = ""


def question() -> bytes:
    """Asks where it came from."""
    return bytes((_QUESTION,))


def is_question(payload: bytes) -> bool:
    """Whether a message of the application is a question."""
    return payload[:1] == bytes((_QUESTION,))


def answer(source: str, own_id: bytes) -> bytes:
    """Tells the asker its address; ``own_id`` lets it notice that it asked itself."""
    address = pack_ip(source)
    return struct.pack(f">B{ID_LENGTH}s", _ANSWER, own_id) + address


def read_answer(payload: bytes, own_id: bytes) -> str | None:
    """The address in an answer; ``None`` when it is none, or our own answer."""
    if payload[:1] != bytes((_ANSWER,)) or payload[1 : 1 + ID_LENGTH] == own_id:
        return None
    try:
        return unpack_ip(payload[1 + ID_LENGTH :])
    except ValueError:
        return None


def choose_address(
    guess: str, echoes: Sequence[Echo], usable: Callable[[str], bool]
) -> AddressChoice:
    """The address to tell others, from what peers saw.

    Args:
        guess: what this host would choose by itself.
        echoes: the answers of peers.
        usable: whether an address is one of this host's own on a network that others can be on;
            a container bridge is none.
    """
    seen = Counter(echo.seen for echo in echoes)
    # Loopback only among nodes that are all on this host.
    wide = [host for host in seen if not ip_address(host).is_loopback] or list(seen)
    own = [host for host in wide if usable(host)]
    if own:
        return AddressChoice(max(own, key=lambda host: seen[host]))
    ways = Counter(echo.local for echo in echoes if echo.seen in wide and usable(echo.local))
    host = max(ways, key=lambda way: ways[way]) if ways else guess
    if not wide:
        return AddressChoice(host)
    return AddressChoice(
        host,
        f"{_listed(echoes, wide)} see this node at {', '.join(sorted(wide))}, which is no address "
        f"of this host that others could be told (NAT, or a container bridge); it tells them "
        f"{host}. If they cannot reach that, set [gossip] advertise to one that they can",
    )


def _listed(echoes: Sequence[Echo], wide: Sequence[str]) -> str:
    return ", ".join(echo.peer for echo in echoes if echo.seen in wide)
