"""Where instances run: the same answer on every node, from the same question.

There is no scheduler. :func:`~constellation_plugin_deploy.placement.place.place` is a pure
function of the definitions, the nodes, and where instances run already; whoever calls it with
equal arguments gets equal results, whatever order they come in.

Nodes are ranked for each service by weighted rendezvous hashing, and instances take them in that
order, as far as constraints, capacity and spread let them.
"""

from __future__ import annotations

from constellation_plugin_deploy.placement.explain import Explanation, Verdict, explain
from constellation_plugin_deploy.placement.facts import NodeFacts
from constellation_plugin_deploy.placement.moves import Move, moves
from constellation_plugin_deploy.placement.place import place
from constellation_plugin_deploy.placement.result import (
    Assignment,
    Constraint,
    Refusal,
    ServiceAssignment,
)

__all__ = [
    "Assignment",
    "Constraint",
    "Explanation",
    "Move",
    "NodeFacts",
    "Refusal",
    "ServiceAssignment",
    "Verdict",
    "explain",
    "moves",
    "place",
]
