"""Routes that take each other's TLS options away.

TLS options hold for a host, not for a router: the handshake is over before there is a request.
Where HTTP routers on one entry point have the same host and different options, Traefik applies
its default options to all of them, so that a client certificate that one of them requires is
not asked for (https://doc.traefik.io/traefik/reference/routing-configuration/http/tls/tls-options/).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from constellation_plugin_traefik.part import Claim
from constellation_plugin_traefik.problems import Problem
from constellation_plugin_traefik.rules import check_http_rule
from constellation_plugin_traefik.shapes import share_entry_point


class _Use(NamedTuple):
    service: str
    claim: Claim


class TLSConflicts:
    """Finds HTTP routes with the same host and entry point, but other TLS options."""

    def __init__(self) -> None:
        self._of_host: dict[str, set[_Use]] = {}
        self._hosts: dict[str, dict[str, set[_Use]]] = {}
        """By service and host: what the service itself uses."""

    def replace(self, service: str, claims: Sequence[Claim]) -> set[str]:
        """Take ``claims`` for all that the service answers to.

        Returns:
            The services whose :meth:`problems` may be others now.
        """
        over_tls = [claim for claim in claims if claim.shape.tls_options is not None]
        before = self._hosts.pop(service, {})
        if not before and not over_tls:
            return set()
        met = {service}
        for host, uses in before.items():
            left = self._of_host[host]
            left -= uses
            met |= {use.service for use in left}
            if not left:
                del self._of_host[host]
        now: dict[str, set[_Use]] = {}
        for claim in over_tls:
            for host in _hosts(claim.rule):
                now.setdefault(host, set()).add(_Use(service, claim))
        for host, uses in now.items():
            others = self._of_host.setdefault(host, set())
            met |= {use.service for use in others}
            others |= uses
        if now:
            self._hosts[service] = now
        return met

    def problems(self, service: str) -> Sequence[Problem]:
        """A warning for every route of the service that has such another."""
        found = []
        for host, uses in sorted(self._hosts.get(service, {}).items()):
            for use in sorted(uses, key=lambda each: each.claim.route):
                others = {
                    other.service
                    for other in self._of_host[host]
                    if other.claim.shape.tls_options != use.claim.shape.tls_options
                    and share_entry_point(other.claim.shape, use.claim.shape)
                }
                if others:
                    text = (
                        f"service {', '.join(sorted(others))} serves {host} with other TLS "
                        "options: Traefik applies its default ones to all of them; give them "
                        "the same"
                    )
                    claim = use.claim
                    found.append(Problem("warning", service, claim.route, "http", claim.rule, text))
        return found


def _hosts(rule: str) -> set[str]:
    matchers = check_http_rule(rule)
    return {each.values[0].lower() for each in matchers if each.name == "Host"}
