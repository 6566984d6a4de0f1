"""Asks a running Traefik what it has taken, through its own API."""

from __future__ import annotations

import json
from typing import Any

_TIMEOUT = 5.0


class TraefikAPI:
    """Traefik's API.

    Args:
        url: where it listens, such as ``http://127.0.0.1:8080``.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str) -> bytes:
        """The body of a GET.

        Raises:
            OSError: when it does not answer with 200 within 5 seconds.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.url}{path}") as answer,
            ):
                if answer.status != 200:
                    raise OSError(f"Traefik's API answers {answer.status} to {path}")
                return await answer.read()
        except TimeoutError:
            raise OSError(f"Traefik's API does not answer within {_TIMEOUT:g} s") from None
        except aiohttp.ClientError as error:
            raise OSError(f"Traefik's API does not answer: {error}") from error

    async def objects(self, kind: str, what: str) -> dict[str, dict[str, Any]]:
        """What it says of the objects that its HTTP provider gave it.

        Args:
            kind: ``http`` or ``tcp``.
            what: ``routers``, ``services`` or ``middlewares``.

        Returns:
            By name, without the ``@http`` that Traefik appends.

        Raises:
            OSError: when it does not answer, or not in its own form.
        """
        body = await self.get(f"/api/{kind}/{what}?per_page=100000")
        try:
            return {
                each["name"].removesuffix("@http"): each
                for each in json.loads(body)
                if each["provider"] == "http"
            }
        except (ValueError, TypeError, KeyError):
            raise OSError(f"{self.url} does not answer like Traefik's API") from None
