"""Middlewares that decide who may pass, and how often."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from constellation_plugin_traefik.schema.base import (
    LIST_SEPARATOR,
    Bool,
    Duration,
    Element,
    Int,
    Network,
    Regexp,
    SignedInt,
    Status,
    Str,
    Text,
    Texts,
    TraefikModel,
)


def _basic_user(value: SecretStr) -> SecretStr:
    return _user(value, 1, "NAME:HASH, as htpasswd -nB writes it")


def _digest_user(value: SecretStr) -> SecretStr:
    return _user(value, 2, "NAME:REALM:HASH, as htdigest writes it")


def _user(value: SecretStr, colons: int, form: str) -> SecretStr:
    text = value.get_secret_value()
    if text.count(":") != colons or not all(text.split(":")) or LIST_SEPARATOR in text:
        raise ValueError(f"a user is {form}")
    return value


def _auth_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value):
        raise ValueError("the address is a URL: http://HOST:PORT/PATH")
    return value


class _Users(TraefikModel):
    users_file: Text | None = None
    """A file on Traefik's host: keeps the hashes out of this document."""
    realm: Str | None = None
    remove_header: Bool | None = None
    header_field: Str | None = None


class BasicAuth(_Users):
    """https://doc.traefik.io/traefik/middlewares/http/basicauth/"""

    users: tuple[Annotated[SecretStr, AfterValidator(_basic_user)], ...] = ()

    @model_validator(mode="after")
    def _has_users(self) -> Self:
        if not self.users and self.users_file is None:
            raise ValueError("needs users or usersFile")
        return self


class DigestAuth(_Users):
    """https://doc.traefik.io/traefik/middlewares/http/digestauth/"""

    users: tuple[Annotated[SecretStr, AfterValidator(_digest_user)], ...] = ()

    @model_validator(mode="after")
    def _has_users(self) -> Self:
        if not self.users and self.users_file is None:
            raise ValueError("needs users or usersFile")
        return self


class AuthTLS(TraefikModel):
    """TLS towards an authentication server; files or PEM texts."""

    ca: Str | None = None
    cert: Str | None = None
    key: SecretStr | None = None
    insecure_skip_verify: Bool | None = None
    ca_optional: Bool | None = None


class ForwardAuth(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/forwardauth/"""

    address: Annotated[Str, AfterValidator(_auth_address)]
    tls: AuthTLS | None = None
    trust_forward_header: Bool | None = None
    auth_response_headers: Texts = ()
    auth_response_headers_regex: Regexp | None = None
    auth_request_headers: Texts = ()
    max_response_body_size: SignedInt | None = None
    add_auth_cookies_to_response: Texts = ()
    header_field: Str | None = None
    forward_body: Bool | None = None
    max_body_size: SignedInt | None = None
    preserve_location_header: Bool | None = None
    preserve_request_method: Bool | None = None
    auth_signin_url: Str | None = Field(default=None, alias="authSigninURL")


class IPStrategy(TraefikModel):
    """Which address of X-Forwarded-For is the client's."""

    depth: Int | None = None
    excluded_ips: tuple[Network, ...] = Field(default=(), alias="excludedIPs")
    ipv6_subnet: Annotated[int, Field(strict=True, ge=0, le=128)] | None = None


class AllowListStrategy(IPStrategy):
    """As :class:`IPStrategy`; may be empty."""

    may_be_empty: ClassVar[bool] = True


class IPAllowList(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/ipallowlist/"""

    source_range: Annotated[tuple[Network, ...], Field(min_length=1)]
    ip_strategy: AllowListStrategy | None = None
    reject_status_code: Status | None = None


class IPWhiteList(TraefikModel):
    """Deprecated by Traefik in favour of ipAllowList."""

    source_range: Annotated[tuple[Network, ...], Field(min_length=1)]
    ip_strategy: AllowListStrategy | None = None


class SourceCriterion(TraefikModel):
    """What makes requests come from the same source; one of the three."""

    ip_strategy: IPStrategy | None = None
    request_header_name: Text | None = None
    request_host: Bool | None = None

    @model_validator(mode="after")
    def _only_one(self) -> Self:
        given = (self.ip_strategy is not None, bool(self.request_header_name), self.request_host)
        if sum(map(bool, given)) > 1:
            raise ValueError("ipStrategy, requestHeaderName and requestHost exclude each other")
        return self


class RedisTLS(TraefikModel):
    """TLS towards Redis; files or PEM texts."""

    ca: Str | None = None
    cert: Str | None = None
    key: SecretStr | None = None
    insecure_skip_verify: Bool | None = None


class Redis(TraefikModel):
    """Where Traefiks share their rate limit."""

    endpoints: Annotated[tuple[Element, ...], Field(min_length=1)]
    tls: RedisTLS | None = None
    username: Str | None = None
    password: SecretStr | None = None
    db: Int | None = None
    pool_size: Int | None = None
    min_idle_conns: Int | None = None
    max_active_conns: Int | None = None
    read_timeout: Duration | None = None
    write_timeout: Duration | None = None
    dial_timeout: Duration | None = None


class RateLimit(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/ratelimit/"""

    average: Int
    period: Duration | None = None
    burst: Int | None = None
    source_criterion: SourceCriterion | None = None
    redis: Redis | None = None


class InFlightReq(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/inflightreq/"""

    amount: Int
    source_criterion: SourceCriterion | None = None


class SubjectInfo(TraefikModel):
    """Which parts of a client certificate's subject are passed on."""

    country: Bool | None = None
    province: Bool | None = None
    locality: Bool | None = None
    organization: Bool | None = None
    organizational_unit: Bool | None = None
    common_name: Bool | None = None
    serial_number: Bool | None = None
    domain_component: Bool | None = None


class IssuerInfo(TraefikModel):
    """Which parts of a client certificate's issuer are passed on."""

    country: Bool | None = None
    province: Bool | None = None
    locality: Bool | None = None
    organization: Bool | None = None
    common_name: Bool | None = None
    serial_number: Bool | None = None
    domain_component: Bool | None = None


class CertificateInfo(TraefikModel):
    """Which parts of a client certificate are passed on."""

    not_after: Bool | None = None
    not_before: Bool | None = None
    sans: Bool | None = None
    serial_number: Bool | None = None
    subject: SubjectInfo | None = None
    issuer: IssuerInfo | None = None


class PassTLSClientCert(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/passtlsclientcert/"""

    pem: Bool | None = None
    info: CertificateInfo | None = None
