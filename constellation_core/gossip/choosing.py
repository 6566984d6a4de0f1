"""Draws random members, quickly also among a thousand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from constellation_core.gossip.member import Member

_FEW = 4
"""So many guesses for each member that is wanted, before all are looked at."""


def choose(
    rng: Random,
    names: Sequence[str],
    members: Mapping[str, Member],
    most: int,
    wanted: Callable[[Member], bool] | None,
) -> list[Member]:
    """Up to ``most`` different members of these ``names`` that are ``wanted``; all may be."""
    if len(names) > _FEW * most:
        # Among many, most guesses hit: no need to look at all.
        chosen: dict[str, Member] = {}
        for _ in range(_FEW * most):
            member = members[names[int(rng.random() * len(names))]]
            if wanted is None or wanted(member):
                chosen[member.name] = member
                if len(chosen) == most:
                    return list(chosen.values())
    found = [members[name] for name in names]
    candidates = [member for member in found if wanted is None or wanted(member)]
    if len(candidates) <= most:
        return candidates
    return rng.sample(candidates, most)
