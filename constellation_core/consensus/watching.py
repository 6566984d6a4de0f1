"""Following what changes, whichever voter tells it and however long one was away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from random import Random

from constellation_core.consensus.access import Access
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.interface import NotLeader, Unavailable, Unknown
from constellation_core.consensus.requests import Backoff
from constellation_core.consensus.state import Answer, Entry, Query

_WAIT = 10.0
"""Seconds that a voter holds an answer back while nothing changes."""

_ATTEMPT = 5.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different from before.

    Attributes:
        revision: the state's; grows from one to the next.
        entries: new ones and those with another value, by name.
        gone: names that are not there any more.
    """

    revision: int
    entries: tuple[Entry, ...]
    gone: tuple[str, ...]


async def follow(
    access: Access, clock: BootClock, random: Random, query: Query
) -> AsyncIterator[Changes]:
    """Everything that ``query`` asks for, then what changes of it, for ever.

    The first value is how things stand, even when there is nothing. Later ones tell the
    difference to what was told before; several changes of one entry may be told as one. A voter
    that is behind what was told already is not believed, and who was away for long gets the
    difference all the same. Failures are tried again without end.
    """
    view: dict[str, int] = {}
    after: int | None = None
    backoff = Backoff(clock, random)
    while True:
        try:
            answer = await access.query(
                replace(query, after=after), linearizable=False, wait=_WAIT, timeout=_ATTEMPT
            )
        except (NotLeader, Unavailable, Unknown):
            await backoff.wait()
            continue
        if after is not None and answer.revision < after:
            await backoff.wait()
            continue
        backoff = Backoff(clock, random)
        changes = _difference(view, answer)
        if changes.entries or changes.gone or after is None:
            yield changes
        after = answer.revision


def _difference(view: dict[str, int], answer: Answer) -> Changes:
    """What ``answer`` tells that ``view`` (name to revision) does not, which is brought to it."""
    present = {entry.key for entry in answer.entries}
    missing = set(view) - present if answer.complete else set(answer.gone) & set(view)
    news = tuple(entry for entry in answer.entries if view.get(entry.key) != entry.revision)
    for name in missing:
        del view[name]
    view.update({entry.key: entry.revision for entry in news})
    return Changes(answer.revision, news, tuple(sorted(missing)))
