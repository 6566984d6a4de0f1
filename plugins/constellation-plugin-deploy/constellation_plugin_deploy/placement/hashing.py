"""Rendezvous hashing: how high each node ranks for a service.

A service ranks all nodes by a number that depends on the two names alone. Without a node the
others keep their order, so nothing moves but what ran there (Thaler and Ravishankar, "Using
Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 6(1), 1998).
With weights, the number is made an exponential variate of the rate ``weight``; the node with the
smallest is first with the probability ``weight / sum of weights`` (Schindelhauer and Schomaker,
"Weighted Distributed Hash Tables", SPAA 2005).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from math import log

_LANE = 16
_MASK = (1 << 64) - 1
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)


def seed(name: str) -> int:
    """64 bits from a name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def draw(service: str, node: str) -> int:
    """The number of 64 bits that ``service`` draws for ``node``; the highest is first.

    The mixing is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast Splittable
    Pseudorandom Number Generators", OOPSLA 2014).
    """
    return Draws((node,)).of(service)[0]


class Draws:
    """What services draw for nodes, for all nodes at once.

    In Python a loop over nodes would be most of the time that placement takes. Integers are as
    long as one likes, so each node has a lane of 128 bits in one of them, and each step of the
    mixing is one operation on all lanes. The upper half of a lane is empty before each step, and
    takes what a multiplication carries or a shift brings from the next lane.

    Args:
        nodes: their names; results have the same order.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        lanes = b"".join(seed(name).to_bytes(_LANE, "little") for name in nodes)
        self._seeds = int.from_bytes(lanes, "little")
        self._ones = int.from_bytes((1).to_bytes(_LANE, "little") * len(nodes), "little")
        self._low = self._ones * _MASK
        self._size = len(lanes)
        self._unpack = struct.Struct("<" + "Q8x" * len(nodes)).unpack

    def of(self, service: str) -> tuple[int, ...]:
        """One number for each node."""
        low = self._low
        mixed = self._seeds ^ seed(service) * self._ones
        for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
            mixed = (mixed ^ (mixed >> shift & low)) * factor & low
        mixed ^= mixed >> _SHIFTS[-1] & low
        return self._unpack(mixed.to_bytes(self._size, "little"))


def weighted(number: int, weight: float) -> float:
    """The number that ranks a node of this weight: the least is first.

    Two C libraries may differ in a logarithm's last bit. For that to matter, two nodes must agree
    in all others.
    """
    return -log(((number >> 11) + 0.5) / (1 << 53)) / weight
