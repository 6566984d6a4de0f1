"""What an agent tells the others of its part in consensus, in its gossip metadata.

One tag, words separated by spaces, of at most 170 bytes. An agent that keeps consensus by something
else than the built-in voters tells only its name::

    raft v+ 3 1 6f0c...e1 94d2...0b 10.0.0.1:7947 17
    etcd

The words are: the :class:`~constellation_core.consensus.voters.network.Part`, with ``+`` if it is
willing to vote; how many voters it wants; up to which version it knows operations; its voter's
UUID; the cluster's, or ``-``; its engine's address; and, if it leads, the term.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from constellation_core.consensus.voters.network import Part
from constellation_core.consensus.voters.settings import SIZES
from constellation_core.consensus.voters.status import Standing

TAG = "consensus"
RAFT = "raft"

_MAX_TERM = 10**12
_MAX_OPERATIONS = 10**4


@dataclass(frozen=True, slots=True)
class Told:
    """What an agent says of itself. Whoever has the cluster's key may say anything.

    Attributes:
        part, willing, wanted, operations, id, cluster, address: as in
            :class:`~constellation_core.consensus.voters.network.Candidate`.
        term: in which it leads; ``None`` when it does not.
    """

    part: Part
    willing: bool
    wanted: int
    operations: int
    id: str
    cluster: str | None
    address: str
    term: int | None = None


def encode(standing: Standing, term: int | None) -> str:
    """The tag of an agent that uses the built-in voters.

    Args:
        standing: how it stands.
        term: in which its voter leads, if it does.
    """
    cluster = "-" if standing.cluster is None else UUID(standing.cluster).hex
    words = [
        RAFT,
        standing.part.value + ("+" if standing.willing else "-"),
        str(standing.wanted),
        str(standing.operations),
        UUID(standing.id).hex,
        cluster,
        standing.address,
    ]
    return " ".join(words if term is None else [*words, str(term)])


@lru_cache(maxsize=1024)
def decode(tag: str) -> Told | None:
    """What a tag says; ``None`` for one of another backend, of another version, or for nonsense."""
    words = tag.split(" ")
    if len(words) not in (7, 8) or words[0] != RAFT or len(words[1]) != 2:
        return None
    _, part, wanted, operations, id_, cluster, address, *term = words
    try:
        return Told(
            Part(part[0]),
            {"+": True, "-": False}[part[1]],
            _wanted(wanted),
            _number(operations, _MAX_OPERATIONS),
            _uuid(id_),
            None if cluster == "-" else _uuid(cluster),
            _address(address),
            _number(term[0], _MAX_TERM) if term else None,
        )
    except (ValueError, KeyError):
        return None


def backend_of(tag: str) -> str:
    """Which backend an agent with this tag uses; ``""`` when it does not say."""
    return tag.split(" ", 1)[0]


def _wanted(word: str) -> int:
    wanted = _number(word, max(SIZES))
    if wanted not in SIZES:
        raise ValueError("no number of voters")
    return wanted


def _number(word: str, most: int) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 12 and int(word) <= most):
        raise ValueError("no number, or too high")
    return int(word)


def _uuid(word: str) -> str:
    if len(word) != 32:
        raise ValueError("no UUID")
    return str(UUID(hex=word))


def _address(word: str) -> str:
    host, _, port = word.rpartition(":")
    ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    if _number(port, 65_535) == 0:
        raise ValueError("no port")
    return word
