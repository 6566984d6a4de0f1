"""What routes may refer to by name, from the plugin's settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from constellation_plugin_traefik.config import RETRY, RETRY_IN_FLIGHT, TRANSPORT, TraefikConfig
from constellation_plugin_traefik.encoding import to_json
from constellation_plugin_traefik.problems import RouteError
from constellation_plugin_traefik.schema.base import check_reference


@dataclass(frozen=True)
class References:
    """Resolves names of middlewares, TLS options, entry points and resolvers.

    Attributes:
        config: the settings.
        unusable: middlewares that cannot be used at the moment, each with the reason; routes
            with one of them are left out.
    """

    config: TraefikConfig
    unusable: tuple[tuple[str, str], ...] = ()

    @cached_property
    def http_transport(self) -> str:
        """JSON of the name of the HTTP serversTransport, or ``""`` for Traefik's default."""
        return to_json(TRANSPORT) if self.config.http_transport() is not None else ""

    @cached_property
    def tcp_transport(self) -> str:
        """As :attr:`http_transport`, for TCP."""
        return to_json(TRANSPORT) if self.config.dial_timeout else ""

    @cached_property
    def plain_middlewares(self) -> str:
        """JSON of the middlewares of an HTTP route that names none."""
        return self._http_middlewares(())

    @cached_property
    def plain_tcp_middlewares(self) -> str:
        """JSON of the middlewares of a TCP route."""
        names = self.config.default_tcp_middlewares
        return to_json(list(names)) if names else ""

    @cached_property
    def _reasons(self) -> dict[str, str]:
        return dict(self.unusable)

    def http_middlewares(self, names: tuple[str, ...]) -> str:
        """JSON of the middlewares of an HTTP route: the defaults, its own, and retry.

        Raises:
            RouteError: when one is not defined, or cannot be used at the moment.
        """
        if not names and not self.unusable:
            return self.plain_middlewares
        return self._http_middlewares(names)

    def entry_points(self, names: tuple[str, ...]) -> str:
        """JSON of the entry points, or ``""`` for Traefik's default ones.

        Raises:
            RouteError: when Traefik would not know one.
        """
        if not names:
            return ""
        for name in names:
            self._static("entry point", name, self.config.known_entry_points)
        return to_json(list(dict.fromkeys(names)))

    def resolver(self, name: str) -> str:
        """The name of a certificate resolver.

        Raises:
            RouteError: when Traefik would not know it.
        """
        self._static("certificate resolver", name, self.config.known_resolvers)
        return name

    def tls_options(self, name: str) -> str:
        """The name of TLS options.

        Raises:
            RouteError: when they are not defined.
        """
        _check(name, "TLS options")
        defined = self.config.tls.options
        if "@" not in name and name != "default" and name not in defined:
            table = f"[plugins.traefik.tls.options.{name}]"
            raise RouteError(f"no TLS options {name!r}: define {table}{_near(name, defined)}")
        return name

    def _http_middlewares(self, own: tuple[str, ...]) -> str:
        names = list(dict.fromkeys((*self.config.default_middlewares, *own)))
        for name in names:
            self._middleware(name)
        if not any(self.config.retries(each) for each in names):
            # The outer one first: each of its tries is tried again by the inner one.
            if self.config.retry_in_flight:
                names.append(RETRY_IN_FLIGHT)
            if self.config.retry_attempts:
                names.append(RETRY)
        return to_json(names) if names else ""

    def _middleware(self, name: str) -> None:
        _check(name, "middleware")
        defined = self.config.middlewares
        if name == RETRY and self.config.retry_attempts:
            return
        if name == RETRY_IN_FLIGHT and self.config.retry_in_flight:
            return
        if "@" not in name and name not in defined:
            table = f"[plugins.traefik.middlewares.{name}]"
            raise RouteError(f"no middleware {name!r}: define {table}{_near(name, defined)}")
        for each in (name, *self.config.chain_members(name)):
            if each in self._reasons:
                raise RouteError(f"middleware {each!r} cannot be used: {self._reasons[each]}")

    def _static(self, what: str, name: str, known: tuple[str, ...]) -> None:
        _check(name, what)
        if "@" in name:
            raise RouteError(f"{name!r} is not a usable name of a {what}")
        if known and name not in known:
            setting = "known_entry_points" if what == "entry point" else "known_resolvers"
            raise RouteError(
                f"no {what} {name!r} among {setting}: {', '.join(known)}{_near(name, known)}"
            )


def _check(name: str, what: str) -> None:
    try:
        check_reference(name)
    except ValueError as error:
        raise RouteError(f"{what}: {error}") from None


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
