"""The whole document, kept up to date one service at a time."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from constellation_core.model.instance import Instance
from constellation_core.model.published import PublishedService
from constellation_core.plugins.context import CatalogView
from constellation_plugin_traefik.config import TraefikConfig
from constellation_plugin_traefik.fixed import Fixed
from constellation_plugin_traefik.overlaps import Overlaps
from constellation_plugin_traefik.part import ServicePart, compile_part, empty_part, fill
from constellation_plugin_traefik.problems import Kind, Problem
from constellation_plugin_traefik.references import References
from constellation_plugin_traefik.section import Section
from constellation_plugin_traefik.servers import Addresses
from constellation_plugin_traefik.shapes import Shapes
from constellation_plugin_traefik.tls_conflicts import TLSConflicts

_NO_PART = empty_part(PublishedService("none"))


class DocumentBuilder:
    """Builds Traefik's dynamic configuration from a catalog.

    Only what changed since the last :meth:`build` is made anew. Not thread-safe.

    Args:
        catalog: where services and instances come from.
        config: the plugin's settings.
        log: told once of every problem that appears, and of its end.
    """

    def __init__(self, catalog: CatalogView, config: TraefikConfig, log: logging.Logger) -> None:
        self._catalog = catalog
        self._config = config
        self._log = log
        self._references = References(config)
        self._shapes = Shapes(self._references)
        self._addresses = Addresses()
        self._parts: dict[str, ServicePart] = {}
        self._http_routers = Section()
        self._http_services = Section()
        self._tcp_routers = Section()
        self._tcp_services = Section()
        self._overlaps = Overlaps()
        self._tls_conflicts = TLSConflicts()
        self._fixed = Fixed(config)
        self._revision: int | None = None
        self._body = b"{}"
        self._changes = 0
        self._problems: dict[str, tuple[Problem, ...]] = {}

    @property
    def changes(self) -> int:
        """How often the document's bytes changed: equal numbers mean equal bytes."""
        return self._changes

    @property
    def routed(self) -> bool:
        """Whether the document of the last :meth:`build` has any router."""
        return bool(self._http_routers.text() or self._tcp_routers.text())

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong with routes, as of the last :meth:`build`, by service."""
        return [each for name in sorted(self._problems) for each in self._problems[name]]

    def build(self) -> bytes:
        """The document as JSON: the same bytes for the same routes, on every node.

        ``{}`` when there is nothing to route, which makes Traefik drop all its routes.
        """
        revision = self._catalog.revision
        if revision != self._revision:
            changed = (
                None if self._revision is None else self._catalog.changed_services(self._revision)
            )
            self._update(changed)
            self._revision = revision
        return self._body

    def section(self, kind: Kind, name: str) -> bytes:
        """One part of the document of the last :meth:`build`, as a JSON object by name.

        Args:
            kind: ``http`` or ``tcp``.
            name: ``routers``, ``services`` or ``middlewares``.

        Raises:
            KeyError: for another name.
        """
        http = kind == "http"
        if name == "middlewares":
            fixed = self._fixed
            text = (
                fixed.http_middlewares(bool(self._http_routers.text()))
                if http
                else fixed.tcp_middlewares
            )
        elif name == "routers":
            text = (self._http_routers if http else self._tcp_routers).text()
        elif name == "services":
            text = (self._http_services if http else self._tcp_services).text()
        else:
            raise KeyError(name)
        return b"{%b}" % text

    def router_names(self, kind: Kind) -> list[str]:
        """Names of the routers in the document of the last :meth:`build`, in order."""
        return (self._http_routers if kind == "http" else self._tcp_routers).names()

    def _update(self, changed: set[str] | None) -> None:
        services = self._catalog.services()
        touched: set[str] = set()
        compiled = False
        if not self._parts:
            self._build_all(services, touched)
            changed, compiled = set(), True
        elif changed is None:
            changed = {*services, *self._parts}
        for name in changed:
            compiled |= self._refresh(name, services.get(name), touched)
        if compiled:
            self._settle(touched)
        self._report(touched)
        self._join()

    def _build_all(self, services: Mapping[str, PublishedService], touched: set[str]) -> None:
        """Make all parts when there are none yet: as :meth:`_refresh`, in fewer steps."""
        instances: defaultdict[str, list[Instance]] = defaultdict(list)
        for instance in self._catalog.instances():
            instances[instance.service].append(instance)
        parts, shapes, addresses = self._parts, self._shapes, self._addresses
        for name, definition in services.items():
            if definition.routes:
                part = parts[name] = compile_part(definition, shapes)
                fill(part, instances.get(name, ()), addresses)
                if part.problems:
                    touched.add(name)
        touched |= self._overlaps.add_all(
            [(name, part.claims) for name, part in parts.items() if part.claims]
        )
        for name, part in parts.items():
            touched |= self._tls_conflicts.replace(name, part.claims)
        made = parts.values()
        self._http_routers.fill([part.http_routers for part in made])
        self._http_services.fill([part.http_services for part in made])
        self._tcp_routers.fill([part.tcp_routers for part in made])
        self._tcp_services.fill([part.tcp_services for part in made])

    def _refresh(
        self,
        name: str,
        definition: PublishedService | None,
        touched: set[str],
        *,
        again: bool = False,
    ) -> bool:
        """Bring one service's part up to date.

        Args:
            name: the service.
            definition: what is in force; ``None`` when it is gone.
            touched: names are added whose problems may be others now.
            again: look at the routes anew, although the definition is the same.

        Returns:
            Whether its routes were looked at, rather than only its instances.
        """
        old = self._parts.get(name)
        if definition is None or not definition.routes:
            if old is None:
                return False
            self._put(old, empty_part(old.definition))
            del self._parts[name]
            touched |= self._overlaps.replace(name, ())
            touched |= self._tls_conflicts.replace(name, ())
            touched.add(name)
            return True
        if (
            old is not None
            and not again
            and (old.definition is definition or old.definition == definition)
        ):
            new, compiled = replace(old), False
        else:
            new, compiled = compile_part(definition, self._shapes), True
            if met := self._overlaps.replace(name, new.claims):
                touched |= met
            touched |= self._tls_conflicts.replace(name, new.claims)
            if new.problems or name in self._problems:
                touched.add(name)
        fill(new, self._catalog.instances(name), self._addresses)
        self._parts[name] = new
        self._put(old, new)
        return compiled

    def _put(self, old: ServicePart | None, new: ServicePart) -> None:
        before = _NO_PART if old is None else old
        if new.http_routers is not before.http_routers:
            self._http_routers.replace(before.http_routers, new.http_routers)
        if new.tcp_routers is not before.tcp_routers:
            self._tcp_routers.replace(before.tcp_routers, new.tcp_routers)
        self._http_services.replace(before.http_services, new.http_services)
        if new.tcp_services is not before.tcp_services:
            self._tcp_services.replace(before.tcp_services, new.tcp_services)

    def _settle(self, touched: set[str]) -> None:
        """Leave out what depends on a service that is not there.

        A middleware of kind ``errors`` needs a service of this document, and routes need the
        middleware. Begins with all of them in use, so that every node comes to the same end.
        """
        if self._references.unusable:
            self._compile_all((), touched)
        while (missing := self._missing()) != self._references.unusable:
            self._compile_all(missing, touched)

    def _missing(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, f"no route leads to its errors.service {service!r}")
            for name, service in sorted(self._fixed.needed_services.items())
            if service not in self._http_services
        )

    def _compile_all(self, unusable: tuple[tuple[str, str], ...], touched: set[str]) -> None:
        self._references = References(self._config, unusable)
        self._shapes = Shapes(self._references)
        for name in list(self._parts):
            self._refresh(name, self._parts[name].definition, touched, again=True)

    def _report(self, touched: set[str]) -> None:
        for name in sorted(touched):
            part = self._parts.get(name)
            now = self._problems_of(name, part) if part is not None else ()
            before = self._problems.get(name, ())
            if now == before:
                continue
            for problem in now:
                if problem not in before:
                    level = logging.ERROR if problem.level == "error" else logging.WARNING
                    self._log.log(level, "%s", problem)
            for problem in before:
                if problem not in now:
                    self._log.info("no more: %s", problem)
            if now:
                self._problems[name] = now
            else:
                self._problems.pop(name, None)

    def _problems_of(self, name: str, part: ServicePart) -> tuple[Problem, ...]:
        return (
            *part.problems,
            *self._overlaps.problems(name),
            *self._tls_conflicts.problems(name),
        )

    def _join(self) -> None:
        fixed = self._fixed
        http_routers, tcp_routers = self._http_routers.text(), self._tcp_routers.text()
        http = _object(
            (b"middlewares", [fixed.http_middlewares(bool(http_routers))]),
            (b"routers", [http_routers]),
            (b"serversTransports", [fixed.http_transports if http_routers else b""]),
            (b"services", [self._http_services.text()]),
        )
        tcp = _object(
            (b"middlewares", [fixed.tcp_middlewares]),
            (b"routers", [tcp_routers]),
            (b"serversTransports", [fixed.tcp_transports if tcp_routers else b""]),
            (b"services", [self._tcp_services.text()]),
        )
        whole = _object((b"http", http), (b"tcp", tcp), (b"tls", [fixed.tls]))
        body = b"".join([b"{", *whole, b"}"])
        if body != self._body:
            self._body = body
            self._changes += 1


def _object(*members: tuple[bytes, Sequence[bytes]]) -> list[bytes]:
    """Pieces of the members that are not empty: Traefik refuses empty ones."""
    pieces: list[bytes] = []
    for name, text in members:
        if any(text):
            pieces += [b',"' if pieces else b'"', name, b'":{', *text, b"}"]
    return pieces
