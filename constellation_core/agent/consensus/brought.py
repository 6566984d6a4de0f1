"""A consensus backend that a plugin brings: used by all, and no more trusted than its plugin."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from constellation_core.consensus.backend import ConsensusBackend, KeyValues, LeaseHolder
from constellation_core.plugins.guard import bounded, explain
from constellation_core.plugins.manager import PluginManager
from constellation_core.plugins.stalls import StalledError

log = logging.getLogger("constellation.consensus")

_CLOSE = 10.0
_CALLABLE = ("run", "close", "describe")
_PARTS = {
    "store": ("get", "list", "put", "compare_and_set", "delete", "watch"),
    "leases": ("hold", "watch", "watch_all"),
}


class BroughtConsensus:
    """A plugin's :class:`~constellation_core.consensus.backend.ConsensusBackend`.

    Args:
        plugin: its name.
        backend: what ``consensus_backend`` returned.
        manager: watches over the time that the plugin's code takes.

    Raises:
        TypeError: what was returned is no backend.
    """

    def __init__(self, plugin: str, backend: ConsensusBackend, manager: PluginManager) -> None:
        _check(backend)
        self.plugin = plugin
        self.name: str = backend.name
        self.store: KeyValues = backend.store
        self.leases: LeaseHolder = backend.leases
        self._backend = backend
        self._manager = manager
        self._stalls = manager.stalls

    async def run(self) -> None:
        """Keep it going; raises what the plugin's code does."""
        with self._stalls.watching():
            work = self._backend.run()
        await self._stalls.watched(work)

    async def close(self) -> None:
        """Have it release what is held, for at most 10 seconds; never fails."""
        try:
            with self._stalls.watching():
                work = self._backend.close()
            await bounded(self._stalls.watched(work), _CLOSE)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            log.warning("plugin %s: closing its consensus raised %s", self.plugin, explain(error))

    def describe(self) -> Mapping[str, Any]:
        """What it says of itself, if that can be used."""
        try:
            with self._stalls.watching():
                said = self._backend.describe()
            return _document(said)
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
            if isinstance(error, StalledError):
                # Not once more: it is asked every second.
                self._manager.fail(self.plugin, f"describe raised {explain(error)}")
            return {
                "backend": self.name,
                "available": False,
                "leader": None,
                "problems": [f"plugin {self.plugin}: describe raised {explain(error)}"],
            }


def _check(backend: Any) -> None:
    missing = [name for name in _CALLABLE if not callable(getattr(backend, name, None))]
    missing += [
        f"{part}.{name}"
        for part, names in _PARTS.items()
        for name in names
        if not callable(getattr(getattr(backend, part, None), name, None))
    ]
    name = getattr(backend, "name", None)
    if not isinstance(name, str) or not name.isidentifier() or name == "raft":
        missing.append("name (a word, and not that of the built-in backend)")
    if missing:
        raise TypeError(
            f"a value of type {type(backend).__name__} is no ConsensusBackend; it lacks "
            f"{', '.join(missing)}"
        )


def _document(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a plugin said, as what JSON can hold and readers rely on."""
    document: dict[str, Any] = json.loads(json.dumps(dict(said), default=str))
    leader = document.get("leader")
    return {
        **document,
        "backend": str(document.get("backend", "")),
        "available": bool(document.get("available")),
        "leader": None if leader is None else str(leader),
        "problems": [str(each) for each in document.get("problems", [])],
    }
