"""The table ``[plugins.traefik]`` of agent.toml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from constellation_core.model.names import Label
from constellation_plugin_traefik.schema.base import Reference, check_reference
from constellation_plugin_traefik.schema.middlewares import HTTPMiddleware, TCPMiddleware
from constellation_plugin_traefik.schema.tls import ForwardingTimeouts, ServersTransport, TLSOptions

OWN = "constellation"
"""Begins the names of what this plugin adds by itself."""
RETRY = f"{OWN}-retry"
RETRY_IN_FLIGHT = f"{OWN}-retry-in-flight"
TRANSPORT = OWN


def _static_name(value: str) -> str:
    if "@" in value:
        raise ValueError(f"{value!r}: a name of Traefik's static configuration has no '@'")
    return check_reference(value)


def _own_name(value: str) -> str:
    if value.startswith(OWN):
        raise ValueError(f"names that begin with {OWN!r} are the plugin's own")
    return value


def _api_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("api_url is the address of Traefik's API, like http://127.0.0.1:8080")
    return value.rstrip("/")


StaticName = Annotated[str, AfterValidator(_static_name)]
OwnName = Annotated[Label, AfterValidator(_own_name)]


class TLSConfig(BaseModel):
    """The table ``[plugins.traefik.tls]``."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    options: dict[OwnName, TLSOptions] = Field(
        default_factory=dict, description="TLS options that routes can name."
    )


class TraefikConfig(BaseModel):
    """Settings of the plugin. Traefik's own structures are written as Traefik's files have them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default_entry_points: tuple[StaticName, ...] = Field(
        default=(),
        description="Entry points of HTTP routes that name none; empty: Traefik's default ones.",
    )
    known_entry_points: tuple[StaticName, ...] = Field(
        default=(),
        description="The entry points that Traefik has; a route to another is an error. "
        "Empty: not checked.",
    )
    known_resolvers: tuple[StaticName, ...] = Field(
        default=(),
        description="The certificate resolvers that Traefik has; a route with another is an "
        "error. Empty: not checked.",
    )
    default_middlewares: tuple[Reference, ...] = Field(
        default=(), description="Middlewares of every HTTP route, before its own ones."
    )
    default_tcp_middlewares: tuple[Reference, ...] = Field(
        default=(), description="Middlewares of every TCP route."
    )
    retry_attempts: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="How often Traefik tries a request that got no answer, each time on the next "
        "instance; applied to every HTTP route that has no retry middleware. 0: off.",
    )
    retry_interval: float = Field(
        default=0.02,
        ge=0,
        le=60,
        description="Seconds before the first further try; grows from try to try.",
    )
    retry_in_flight: bool = Field(
        default=False,
        description="Also try once more, on the next instance, what an instance took and did not "
        "answer because it died: only methods that may be repeated (GET, PUT, DELETE ...), also "
        "after a 502 of the service itself. Needs Traefik 3.7: an older one refuses the whole "
        "document.",
    )
    dial_timeout: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds that Traefik waits for a connection to an instance, so that a host "
        "without power costs a request no more. 0: Traefik's default, 30.",
    )
    servers_transport: ServersTransport | None = Field(
        default=None,
        description="How Traefik reaches the instances of HTTP routes: TLS, connections, timeouts.",
    )
    middlewares: dict[OwnName, HTTPMiddleware] = Field(
        default_factory=dict, description="HTTP middlewares that routes can name."
    )
    tcp_middlewares: dict[OwnName, TCPMiddleware] = Field(
        default_factory=dict, description="TCP middlewares."
    )
    tls: TLSConfig = Field(default_factory=TLSConfig)
    cold_patience: float = Field(
        default=15.0,
        ge=0,
        le=3600,
        description="Seconds after its start for which an agent that knows no route answers "
        "Traefik with an error, not with an empty document that would wipe working routes.",
    )
    api_url: Annotated[str, AfterValidator(_api_url)] | None = Field(
        default=None,
        description="Traefik's own API; `constellation verify` then compares what it took.",
    )

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        for setting, defined in (
            ("default_middlewares", self.middlewares.keys()),
            ("default_tcp_middlewares", self.tcp_middlewares.keys()),
        ):
            for name in getattr(self, setting):
                if "@" not in name and name not in defined:
                    raise ValueError(f"{setting}: there is no middleware {name!r}")
        for name, middleware in self.middlewares.items():
            if middleware.chain is None:
                continue
            for member in middleware.chain.middlewares:
                if "@" not in member and member not in self.middlewares:
                    raise ValueError(f"middlewares.{name}: there is no middleware {member!r}")
            if name in self.chain_members(name):
                raise ValueError(f"middlewares.{name}: the chain contains itself")
        return self

    def chain_members(self, name: str) -> set[str]:
        """All middlewares that the chain ``name`` leads to; empty for other middlewares."""
        reached: set[str] = set()
        waiting = list(self._members(name))
        while waiting:
            member = waiting.pop()
            if member not in reached:
                reached.add(member)
                waiting += self._members(member)
        return reached

    def _members(self, name: str) -> Iterator[str]:
        # A name with this document's own provider is the same as without.
        middleware = self.middlewares.get(name.removesuffix("@http"))
        if middleware is not None and middleware.chain is not None:
            for member in middleware.chain.middlewares:
                yield member.removesuffix("@http")

    def retries(self, name: str) -> bool:
        """Whether the middleware ``name``, or one that it chains, is a retry."""
        for each in {name, *self.chain_members(name)}:
            middleware = self.middlewares.get(each)
            if middleware is not None and middleware.retry is not None:
                return True
        return False

    def http_transport(self) -> ServersTransport | None:
        """``servers_transport`` with ``dial_timeout`` filled in where it says nothing of it."""
        transport = self.servers_transport
        if not self.dial_timeout:
            return transport
        timeouts = transport.forwarding_timeouts if transport is not None else None
        if timeouts is not None and timeouts.dial_timeout is not None:
            return transport
        given = timeouts.plain() if timeouts is not None else {}
        dial = f"{max(1, round(self.dial_timeout * 1000))}ms"
        filled = ForwardingTimeouts.model_validate({**given, "dialTimeout": dial})
        if transport is None:
            return ServersTransport.model_validate({"forwardingTimeouts": filled})
        return transport.model_copy(update={"forwarding_timeouts": filled})
