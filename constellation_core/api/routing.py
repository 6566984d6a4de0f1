"""What a route of the agent's API is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aiohttp import web

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One path of the API.

    Attributes:
        method: ``GET``, ``POST`` ...; anything but ``GET`` must be of ``control`` access.
        path: in aiohttp's form, for example ``/api/v1/instances/{id}``.
        handler: an aiohttp handler.
        access: ``read`` is served on TCP and on the unix socket; ``control`` on the unix socket,
            and on TCP only with a token.
        summary: one line for the index at ``/api/v1``.
    """

    method: str
    path: str
    handler: Handler
    access: Literal["read", "control"] = "read"
    summary: str = ""
