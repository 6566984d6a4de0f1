"""Traefik's HTTP provider, without the HTTP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from constellation_core.plugins.context import CatalogView, Clock
from constellation_plugin_traefik.cold import ColdGuard
from constellation_plugin_traefik.config import TraefikConfig
from constellation_plugin_traefik.document import DocumentBuilder
from constellation_plugin_traefik.problems import Kind, Problem


class HeldBackError(Exception):
    """The document is not given now, so that it wipes no working routes; the text says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """What Traefik gets.

    Attributes:
        body: JSON.
        etag: as in the header ``ETag``; equal for equal bodies, on every node.
    """

    body: bytes
    etag: str


class Provider:
    """Answers for the document and its parts; up to date at every call, cached between changes.

    Args:
        catalog: what the document is made from.
        config: the plugin's settings.
        log: told of problems with routes.
        clock: time.
        local: name of this node.
    """

    def __init__(
        self,
        catalog: CatalogView,
        config: TraefikConfig,
        log: logging.Logger,
        clock: Clock,
        local: str,
    ) -> None:
        self.config = config
        self._builder = DocumentBuilder(catalog, config, log)
        self._guard = ColdGuard(catalog, clock, config.cold_patience, local)
        self._document = Document(b"", "")

    def document(self) -> Document:
        """The document.

        Raises:
            HeldBackError: while it would wipe working routes.
        """
        body = self._builder.build()
        reason = self._guard.refusal(self._builder.routed)
        if reason is not None:
            raise HeldBackError(reason)
        if body is not self._document.body:
            self._document = Document(body, f'"{blake2b(body, digest_size=12).hexdigest()}"')
        return self._document

    def part(self, kind: Kind, name: str) -> bytes:
        """One object of what is known now, such as ``http``, ``routers``, as JSON.

        For people and scripts: never held back, since Traefik cannot take a part.
        """
        self._builder.build()
        return self._builder.section(kind, name)

    def problems(self) -> Sequence[Problem]:
        """What is wrong with routes now."""
        self._builder.build()
        return self._builder.problems

    def router_names(self, kind: Kind) -> list[str]:
        """The routers that are in the document now."""
        self._builder.build()
        return self._builder.router_names(kind)
