"""Middlewares that change requests and answers, or how they are carried."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from constellation_plugin_traefik.schema.base import (
    Bool,
    Duration,
    Element,
    Int,
    Reference,
    Regexp,
    Status,
    StatusRange,
    Str,
    Text,
    Texts,
    TraefikModel,
)
from constellation_plugin_traefik.schema.expressions import check_breaker, check_buffering_retry


class AddPrefix(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/addprefix/"""

    prefix: Text


class StripPrefix(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/stripprefix/"""

    prefixes: Annotated[tuple[Element, ...], Field(min_length=1)]
    force_slash: Bool | None = None


class StripPrefixRegex(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/stripprefixregex/"""

    regex: Annotated[tuple[Annotated[Regexp, Element], ...], Field(min_length=1)]


class ReplacePath(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/replacepath/"""

    path: Text


class ReplacePathRegex(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/replacepathregex/"""

    regex: Regexp
    replacement: Str = ""


class RedirectRegex(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/redirectregex/"""

    regex: Regexp
    replacement: Text
    permanent: Bool | None = None


class RedirectScheme(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/redirectscheme/"""

    scheme: Text
    port: Annotated[Str, Field(pattern=r"^[0-9]{1,5}$")] | None = None
    permanent: Bool | None = None


class Chain(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/chain/"""

    middlewares: Annotated[tuple[Reference, ...], Field(min_length=1)]


class EncodedCharacters(TraefikModel):
    """Which encoded characters a path may have."""

    allow_encoded_slash: Bool | None = None
    allow_encoded_back_slash: Bool | None = None
    allow_encoded_null_character: Bool | None = None
    allow_encoded_semicolon: Bool | None = None
    allow_encoded_percent: Bool | None = None
    allow_encoded_question_mark: Bool | None = None
    allow_encoded_hash: Bool | None = None


class Errors(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/errorpages/

    ``service`` is a service of Traefik's: ``NAME@PROVIDER``, or the name that a Constellation
    service has in this document.
    """

    status: Annotated[tuple[StatusRange, ...], Field(min_length=1)]
    status_rewrites: dict[StatusRange, Status] = Field(default_factory=dict)
    service: Reference
    query: Str | None = None
    error_request_headers: Texts = ()


class Buffering(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/buffering/"""

    max_request_body_bytes: Int | None = None
    mem_request_body_bytes: Int | None = None
    max_response_body_bytes: Int | None = None
    mem_response_body_bytes: Int | None = None
    retry_expression: Annotated[Text, AfterValidator(check_buffering_retry)] | None = None


class CircuitBreaker(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/circuitbreaker/"""

    expression: Annotated[Text, AfterValidator(check_breaker)]
    check_period: Duration | None = None
    fallback_duration: Duration | None = None
    recovery_duration: Duration | None = None
    response_code: Status | None = None


Encoding = Literal["gzip", "br", "zstd"]
MediaType = Annotated[Element, Field(pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$")]


class Compress(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/compress/"""

    may_be_empty: ClassVar[bool] = True
    excluded_content_types: tuple[MediaType, ...] = ()
    included_content_types: tuple[MediaType, ...] = ()
    min_response_body_bytes: Int | None = None
    encodings: tuple[Encoding, ...] = ()
    default_encoding: Encoding | None = None

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.excluded_content_types and self.included_content_types:
            raise ValueError("excludedContentTypes and includedContentTypes exclude each other")
        return self


class Retry(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/retry/"""

    attempts: Annotated[Int, Field(ge=1, le=1000)]
    timeout: Duration | None = None
    initial_interval: Duration | None = None
    max_request_body_bytes: Int | None = None
    status: tuple[StatusRange, ...] = ()
    disable_retry_on_network_error: Bool | None = None
    retry_non_idempotent_method: Bool | None = None


class ContentType(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/contenttype/"""

    may_be_empty: ClassVar[bool] = True
    auto_detect: Bool | None = None


class GrpcWeb(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/grpcweb/"""

    allow_origins: Annotated[Texts, Field(min_length=1)]
