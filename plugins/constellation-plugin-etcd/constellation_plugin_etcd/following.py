"""Following keys, whichever member tells of them and however long one was away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from random import Random

from constellation_core.consensus import Unavailable, Unknown
from constellation_core.consensus.clock import BootClock
from constellation_core.consensus.requests import Backoff
from constellation_plugin_etcd.client import Compacted, EtcdClient
from constellation_plugin_etcd.messages import Found, KeyValue, Span

SILENCE = 30.0
"""Seconds; a connection on which nothing comes may be dead, so it is made anew this often."""

_ATTEMPT = 5.0


@dataclass(frozen=True, slots=True)
class News:
    """What is different from before.

    Attributes:
        revision: up to which all is told; grows from one to the next.
        entries: new ones and those that were written.
        gone: keys that are not there any more.
    """

    revision: int
    entries: tuple[KeyValue, ...]
    gone: tuple[bytes, ...]


async def follow(
    client: EtcdClient,
    clock: BootClock,
    random: Random,
    span: Span,
    known: Found | None = None,
) -> AsyncGenerator[News, None]:
    """Everything in ``span``, then what changes of it, for ever.

    The first value is how things stand, even when there is nothing; with ``known`` that counts
    as told already. Later ones tell the difference to what was told before, and never an older
    state after a newer one. Who was away for so long that etcd has forgotten what happened gets
    the difference all the same. Failures are tried again without end. To be closed when it is
    not needed any more.
    """
    view = _View(known.entries if known else ())
    revision = known.revision if known else None
    complete = known is not None
    backoff = Backoff(clock, random)
    while True:
        try:
            if not complete:
                found = await client.range(span, timeout=_ATTEMPT, serializable=True)
                if revision is not None and found.revision < revision:
                    raise Unavailable("this member is behind")
                news = view.replaced(found)
                if news.entries or news.gone or revision is None:
                    yield news
                revision, complete = found.revision, True
            assert revision is not None
            watching = client.watch(span, revision + 1, silence=SILENCE)
            async with aclosing(watching) as happening:
                async for events in happening:
                    news = view.changed(events.revision, events.entries, events.gone)
                    revision = max(revision, events.revision)
                    backoff = Backoff(clock, random)
                    if news.entries or news.gone:
                        yield news
        except Compacted:
            complete = False
        except (Unavailable, Unknown):
            await backoff.wait()


class _View:
    """What was told."""

    def __init__(self, entries: Iterable[KeyValue]) -> None:
        self._revisions = {entry.key: entry.modified for entry in entries}

    def replaced(self, found: Found) -> News:
        """What is new when only what was found is there."""
        present = {entry.key for entry in found.entries}
        gone = tuple(sorted(set(self._revisions) - present))
        return self.changed(found.revision, found.entries, gone)

    def changed(self, revision: int, entries: Iterable[KeyValue], gone: Iterable[bytes]) -> News:
        """What is new of this."""
        written = tuple(
            entry for entry in entries if self._revisions.get(entry.key, 0) < entry.modified
        )
        missing = tuple(key for key in gone if self._revisions.pop(key, None) is not None)
        self._revisions.update({entry.key: entry.modified for entry in written})
        return News(revision, written, missing)
