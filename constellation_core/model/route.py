"""How traffic from outside reaches a service, in words that any proxy plugin can use."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.check import PortRef
from constellation_core.model.strict import STRICT

_HOST = r"^(\{domain\}|[A-Za-z0-9_*-]+)(\.(\{domain\}|[A-Za-z0-9_-]+))*\.?$"

Host = Annotated[str, Field(max_length=253, pattern=_HOST)]
"""A DNS name; ``{domain}`` stands for ``[agent] domain``."""
PathPrefix = Annotated[str, Field(pattern=r"^/[^\s`]*$")]


@dataclass(frozen=True, config=STRICT)
class Sticky:
    """Keeps a client on the instance that first answered it, by a cookie."""

    cookie: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "constellation"
    _: KW_ONLY
    secure: bool = False
    http_only: bool = True
    same_site: Literal["none", "lax", "strict"] | None = None
    max_age: Annotated[int, Field(ge=0)] = 0
    """Seconds; 0 means for the browser's session."""


@dataclass(frozen=True, config=STRICT)
class TLS:
    """Serve the route over TLS.

    Attributes:
        resolver: name of the proxy's certificate resolver, where it has one.
        options: name of the proxy's TLS options.
        domains: names to ask a certificate for, when they differ from the hosts.
        passthrough: TCP only: leave the TLS to the service.
    """

    _: KW_ONLY
    resolver: str | None = None
    options: str | None = None
    domains: tuple[Host, ...] = ()
    passthrough: bool = False


@dataclass(frozen=True, config=STRICT)
class Route:
    """An HTTP route to one port of the service.

    Either ``host`` (one or several names), or ``path``, or both, or a whole ``rule`` in the
    proxy's own language.

    Attributes:
        port: name or number of the service's port; its first one when not given.
        entry_points: the proxy's listeners to use; its default ones when empty.
        priority: the higher one wins where two rules match; ``None`` leaves it to the proxy.
        middlewares: names from the proxy plugin's configuration, applied in this order.
        balance_check: let the proxy itself probe the instances too, with the service's HTTP
            check, so that it stops using a dead one before the next document reaches it.
    """

    host: Host | tuple[Host, ...] | None = None
    _: KW_ONLY
    path: PathPrefix | None = None
    rule: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    port: PortRef | None = None
    scheme: Literal["http", "https", "h2c"] = "http"
    entry_points: tuple[str, ...] = ()
    priority: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    middlewares: tuple[str, ...] = ()
    tls: TLS | None = None
    sticky: Sticky | None = None
    pass_host_header: bool = True
    balance_check: bool = True
    kind: Literal["http"] = "http"

    @property
    def hosts(self) -> tuple[str, ...]:
        """``host`` as a tuple."""
        if self.host is None:
            return ()
        return (self.host,) if isinstance(self.host, str) else self.host

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        if self.rule is None and not self.hosts and self.path is None:
            raise ValueError("a route needs a host, a path or a rule")
        if self.rule is not None and (self.hosts or self.path is not None):
            raise ValueError("a route takes either rule, or host and path, not both")
        if self.tls is not None and self.tls.passthrough:
            raise ValueError("tls passthrough is for TCPRoute; an HTTP route ends TLS at the proxy")
        return self


@dataclass(frozen=True, config=STRICT)
class TCPRoute:
    """A TCP route to one port of the service.

    Without TLS a proxy cannot tell names apart, so ``sni`` is ``"*"`` and the entry point
    belongs to this service alone.
    """

    entry_points: Annotated[tuple[str, ...], Field(min_length=1)]
    _: KW_ONLY
    port: PortRef | None = None
    sni: Literal["*"] | Host = "*"
    priority: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    tls: TLS | None = None
    kind: Literal["tcp"] = "tcp"

    @model_validator(mode="after")
    def _name_needs_tls(self) -> Self:
        if self.sni != "*" and self.tls is None:
            raise ValueError(
                f"sni={self.sni!r} needs tls=TLS(...): without TLS a client sends no name"
            )
        return self


AnyRoute = Annotated[Route | TCPRoute, Field(discriminator="kind")]
