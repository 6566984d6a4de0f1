"""One middleware: exactly one of Traefik's kinds, HTTP or TCP."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, Secret, model_validator

from constellation_plugin_traefik.schema.access import (
    BasicAuth,
    DigestAuth,
    ForwardAuth,
    InFlightReq,
    IPAllowList,
    IPWhiteList,
    PassTLSClientCert,
    RateLimit,
)
from constellation_plugin_traefik.schema.base import (
    LIST_SEPARATOR,
    Int,
    Network,
    Text,
    TraefikModel,
)
from constellation_plugin_traefik.schema.headers import Headers
from constellation_plugin_traefik.schema.transform import (
    AddPrefix,
    Buffering,
    Chain,
    CircuitBreaker,
    Compress,
    ContentType,
    EncodedCharacters,
    Errors,
    GrpcWeb,
    RedirectRegex,
    RedirectScheme,
    ReplacePath,
    ReplacePathRegex,
    Retry,
    StripPrefix,
    StripPrefixRegex,
)

PluginSettings = dict[Text, JsonValue]


def _check_plugin(settings: Secret[PluginSettings]) -> Secret[PluginSettings]:
    if not settings.get_secret_value():
        raise ValueError("a plugin needs its settings")
    _check_value(settings.get_secret_value(), in_list=False)
    return settings


def _check_value(value: JsonValue, *, in_list: bool) -> None:
    """Refuse what Traefik's decoder, which writes everything as text, cannot carry."""
    if isinstance(value, list):
        if in_list:
            raise ValueError("Traefik cannot carry a list inside a list")
        for each in value:
            _check_value(each, in_list=True)
    elif isinstance(value, dict):
        for each in value.values():
            _check_value(each, in_list=False)
    elif isinstance(value, str) and LIST_SEPARATOR in value:
        raise ValueError(f"Traefik cannot carry {LIST_SEPARATOR!r} in a plugin's settings")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number must fit into 64 bits")


class HTTPMiddleware(TraefikModel):
    """One HTTP middleware: exactly one of the kinds below."""

    add_prefix: AddPrefix | None = None
    strip_prefix: StripPrefix | None = None
    strip_prefix_regex: StripPrefixRegex | None = None
    replace_path: ReplacePath | None = None
    replace_path_regex: ReplacePathRegex | None = None
    chain: Chain | None = None
    ip_white_list: IPWhiteList | None = None
    ip_allow_list: IPAllowList | None = None
    headers: Headers | None = None
    encoded_characters: EncodedCharacters | None = None
    errors: Errors | None = None
    rate_limit: RateLimit | None = None
    redirect_regex: RedirectRegex | None = None
    redirect_scheme: RedirectScheme | None = None
    basic_auth: BasicAuth | None = None
    digest_auth: DigestAuth | None = None
    forward_auth: ForwardAuth | None = None
    in_flight_req: InFlightReq | None = None
    buffering: Buffering | None = None
    circuit_breaker: CircuitBreaker | None = None
    compress: Compress | None = None
    pass_tls_client_cert: PassTLSClientCert | None = Field(default=None, alias="passTLSClientCert")
    retry: Retry | None = None
    content_type: ContentType | None = None
    grpc_web: GrpcWeb | None = None
    plugin: dict[Text, Annotated[Secret[PluginSettings], AfterValidator(_check_plugin)]] | None = (
        Field(default=None, min_length=1, max_length=1)
    )
    """Settings of a plugin that Traefik's static configuration loads; they count as secrets."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        _require_one_kind(self)
        return self

    @property
    def kind(self) -> str:
        """Traefik's name of the kind, such as ``rateLimit``."""
        return next(iter(self.plain()))


class TCPInFlightConn(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/tcp/inflightconn/"""

    amount: Int


class TCPIPAllowList(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/tcp/ipallowlist/"""

    source_range: Annotated[tuple[Network, ...], Field(min_length=1)]


class TCPMiddleware(TraefikModel):
    """One TCP middleware: exactly one of the kinds below."""

    in_flight_conn: TCPInFlightConn | None = None
    ip_allow_list: TCPIPAllowList | None = None
    ip_white_list: TCPIPAllowList | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        _require_one_kind(self)
        return self

    @property
    def kind(self) -> str:
        """Traefik's name of the kind."""
        return next(iter(self.plain()))


def _require_one_kind(middleware: TraefikModel) -> None:
    kinds = list(middleware.plain())
    if len(kinds) > 1:
        raise ValueError(f"a middleware is of one kind; make {len(kinds)} of {', '.join(kinds)}")
