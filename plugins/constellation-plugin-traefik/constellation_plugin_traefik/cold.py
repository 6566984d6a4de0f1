"""Decides whether a document may be given to Traefik, which believes all that it gets.

Traefik keeps its routes while its provider answers with an error, and drops all of them for a
document without any. So a document that lacks routes only because this agent does not know
them yet, or any more, is held back behind an error:

* while the catalog is not warm: this agent has just started and no peer has told it the
  fleet's state yet;
* when this agent has known no route since its start, for some seconds: its own services may
  not be loaded yet;
* when the last route is gone while this node is cut off from all others: it then knows nothing
  new, and what it knew has only grown old.
"""

from __future__ import annotations

from constellation_core.model.node import NodeState
from constellation_core.plugins.context import CatalogView, Clock


class ColdGuard:
    """Holds back documents that would wipe working routes.

    Args:
        catalog: what the document is made from.
        clock: time.
        patience: seconds from the first look at a warm catalog for which a document that never
            had a route is held back.
        local: name of this node.
    """

    def __init__(self, catalog: CatalogView, clock: Clock, patience: float, local: str) -> None:
        self._catalog = catalog
        self._clock = clock
        self._patience = patience
        self._local = local
        self._had_routes = False
        self._cut_off = False
        self._warm_since: float | None = None

    def refusal(self, routed: bool) -> str | None:
        """Why the document is held back; ``None`` when it may be given.

        Args:
            routed: whether it has any router.
        """
        if not self._catalog.warm:
            return "this agent has just started and does not know the fleet's state yet"
        now = self._clock.monotonic()
        if self._warm_since is None:
            self._warm_since = now
        if routed:
            self._had_routes = True
            return None
        if not self._had_routes and now - self._warm_since < self._patience:
            return (
                "no route is known yet; a document without routes is given "
                f"{self._patience:g} s after the start"
            )
        if self._is_cut_off():
            return "this node is cut off from all others, and knows no route any more"
        return None

    def _is_cut_off(self) -> bool:
        """Whether other nodes were there and did not say goodbye, and none of them is alive."""
        others = [node for node in self._catalog.nodes() if node.name != self._local]
        # Dead nodes are forgotten after some time; that they are is no news of them.
        if others:
            expected = [node for node in others if node.state is not NodeState.LEFT]
            living = [
                node for node in expected if node.state in (NodeState.ALIVE, NodeState.SUSPECT)
            ]
            self._cut_off = bool(expected) and not living
        return self._cut_off
