"""Which names changed at which revision, as far back as memory was set aside for it."""

from __future__ import annotations

from collections import deque

from constellation_core.consensus.state.queries import Query, Space

REMEMBERED = 4096
"""Changes; who missed more than these gets everything anew."""


class ChangeLog:
    """The latest changes. Not part of a snapshot: it only saves work.

    Args:
        revision: the state's; what changed before is not known.
        remembered: how many changes to keep.
    """

    def __init__(self, revision: int = 0, remembered: int = REMEMBERED) -> None:
        self._known_after = revision
        self._remembered = remembered
        self._changes: deque[tuple[int, Space, str]] = deque()

    def add(self, revision: int, space: Space, name: str) -> None:
        """``name`` changed at ``revision``, which is not below earlier ones."""
        self._changes.append((revision, space, name))
        if len(self._changes) > self._remembered:
            self._known_after = self._changes.popleft()[0]

    def since(self, query: Query, after: int) -> set[str] | None:
        """The names of the query that changed after that; ``None`` when that is not known."""
        if after < self._known_after:
            return None
        names = set()
        for revision, space, name in reversed(self._changes):
            if revision <= after:
                break
            if space == query.space and query.covers(name):
                names.add(name)
        return names
