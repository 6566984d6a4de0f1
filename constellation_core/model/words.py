"""Help for who mistyped a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of ``known`` that looks most like ``name``, or ``""`` when none does."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else ""


def did_you_mean(near: str, template: str = "'{}'") -> str:
    """``; did you mean 'NEAR'?``, or ``""``; put ``{}`` in ``template`` where the name goes."""
    return f"; did you mean {template.format(near)}?" if near else ""


def listed(names: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    *first, final = names
    return f"{', '.join(first)} {last} {final}" if first else final
