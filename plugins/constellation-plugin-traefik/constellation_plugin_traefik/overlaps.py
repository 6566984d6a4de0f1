"""Services that answer to the same requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from constellation_plugin_traefik.part import Claim
from constellation_plugin_traefik.problems import Problem
from constellation_plugin_traefik.shapes import share_entry_point


class Overlaps:
    """Finds routers of different services with the same rule and priority on one entry point.

    Traefik takes them all, and one of them wins by chance. Both stay, with a warning: to
    take one away could be to take the wrong one.
    """

    def __init__(self) -> None:
        self._only: dict[str, str] = {}
        """The service that alone has a key."""
        self._shared: dict[str, set[str]] = {}
        """The services that have a key together, at least two."""
        self._claims: dict[str, Sequence[Claim]] = {}

    def __bool__(self) -> bool:
        return bool(self._shared)

    def add_all(self, claims_of: Iterable[tuple[str, Sequence[Claim]]]) -> set[str]:
        """Take the claims of services that had none before.

        Returns:
            The services whose :meth:`problems` may be others now.
        """
        met: set[str] = set()
        only = self._only
        for service, claims in claims_of:
            self._claims[service] = claims
            for claim in claims:
                if only.setdefault(claim.key, service) is not service:
                    met |= self._share(claim.key, service)
        return met

    def replace(self, service: str, claims: Sequence[Claim]) -> set[str]:
        """Take ``claims`` for all that the service answers to.

        Returns:
            The services whose :meth:`problems` may be others now.
        """
        met: set[str] = set()
        if service in self._claims:
            for key in {claim.key for claim in self._claims.pop(service)}:
                met |= self._withdraw(key, service)
        if claims:
            met |= self.add_all([(service, claims)])
        return met

    def problems(self, service: str) -> Sequence[Problem]:
        """A warning for every route of the service that another service has too."""
        found = []
        for claim in self._claims.get(service, ()):
            others = [
                other
                for other in sorted(self._shared.get(claim.key, ()))
                if other != service and self._meet(claim, other)
            ]
            if others:
                text = (
                    f"service {', '.join(others)} has the same rule and priority: which of them "
                    "Traefik takes is chance; give one a priority, or another rule"
                )
                found.append(
                    Problem("warning", service, claim.route, claim.shape.kind, claim.rule, text)
                )
        return found

    def _share(self, key: str, service: str) -> set[str]:
        holder = self._only[key]
        if holder == service:
            return set()
        together = self._shared.setdefault(key, {holder})
        together.add(service)
        return together

    def _withdraw(self, key: str, service: str) -> set[str]:
        together = self._shared.get(key)
        if together is None:
            del self._only[key]
            return set()
        together.discard(service)
        left = set(together)
        self._only[key] = min(left)
        if len(left) == 1:
            del self._shared[key]
        return left | {service}

    def _meet(self, claim: Claim, other: str) -> bool:
        return any(
            theirs.key == claim.key and share_entry_point(claim.shape, theirs.shape)
            for theirs in self._claims[other]
        )
