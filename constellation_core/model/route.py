"""How traffic from outside reaches a service, in words that any proxy plugin can use."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.check import PortRef
from constellation_core.model.strict import STRICT, Words, matching

_HOST = re.compile(r"(\{domain\}|[A-Za-z0-9_*-]+)(\.(\{domain\}|[A-Za-z0-9_-]+))*\.?")


def check_host(value: str) -> str:
    """Return ``value`` when it is a DNS name, perhaps with ``{domain}`` in it.

    Raises:
        ValueError: with the rule.
    """
    if len(value) > 253:
        raise ValueError(f"a host name has at most 253 characters, and this one {len(value)}")
    if not _HOST.fullmatch(value):
        raise ValueError(
            f"{value!r} is no host name: labels of letters, digits, '-' and '_' with dots between "
            "them, such as 'www.example.com' or 'www.{domain}'"
        )
    return value


def _check_hosts(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    for each in (value,) if isinstance(value, str) else value:
        check_host(each)
    return value


Host = Annotated[str, AfterValidator(check_host), Words("host name")]
"""A DNS name; ``{domain}`` stands for ``[agent] domain``."""
Hosts = Annotated[
    str | tuple[str, ...], AfterValidator(_check_hosts), Words("host name, or several")
]
PathPrefix = Annotated[
    str,
    matching(r"/[^\s`]*", "a path begins with '/' and has no spaces and no backquote"),
    Words("URL path"),
]


@dataclass(frozen=True, config=STRICT)
class Sticky:
    """Keeps a client on the instance that first answered it, by a cookie.

    Attributes:
        cookie: its name.
        secure: whether the browser sends it over TLS only.
        http_only: whether scripts cannot read it.
        same_site: which requests of other sites carry it; the browser's default when not given.
        max_age: seconds that the browser keeps it; 0 means for its session.
    """

    cookie: Annotated[
        str, matching(r"[A-Za-z0-9_.-]+", "a cookie's name is letters, digits, '_', '.' and '-'")
    ] = "constellation"
    _: KW_ONLY
    secure: bool = False
    http_only: bool = True
    same_site: Literal["none", "lax", "strict"] | None = None
    max_age: Annotated[int, Field(ge=0)] = 0


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
        host: the name or names that requests are for; ``{domain}`` stands for ``[agent] domain``.
        path: what their path begins with.
        rule: which requests are meant, in the proxy's language.
        port: name or number of the service's port; its first one when not given.
        scheme: how the service is spoken to; ``h2c`` is HTTP/2 without TLS.
        entry_points: the proxy's listeners to use; its default ones when empty.
        priority: the higher one wins where two rules match; ``None`` leaves it to the proxy.
        middlewares: names from the proxy plugin's configuration, applied in this order.
        tls: serve it over TLS.
        sticky: keep a client on one instance.
        pass_host_header: whether the service sees the host that the client asked for.
        balance_check: let the proxy itself probe the instances too, with the service's HTTP
            check, so that it stops using a dead one before the next document reaches it.
    """

    host: Hosts | None = None
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

    Attributes:
        entry_points: the proxy's listeners to use.
        port: name or number of the service's port; its first one when not given.
        sni: the name that a TLS client asks for.
        priority: the higher one wins where two match; ``None`` leaves it to the proxy.
        tls: needed for ``sni``.
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
