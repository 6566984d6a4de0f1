"""What is wrong with a route, as the operator is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["http", "tcp"]


class RouteError(ValueError):
    """A route that cannot be given to Traefik; the text says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one route of one service.

    Attributes:
        level: ``error``: the route is left out of the document; ``warning``: it is in.
        service: the Constellation service.
        route: its number in the definition, from 1.
        kind: ``http`` or ``tcp``.
        rule: the rule, or ``""`` where none could be made.
        text: what is wrong.
    """

    level: Literal["error", "warning"]
    service: str
    route: int
    kind: Kind
    rule: str
    text: str

    def __str__(self) -> str:
        rule = f" ({self.rule})" if self.rule else ""
        return f"service {self.service}, {self.kind} route {self.route}{rule}: {self.text}"
