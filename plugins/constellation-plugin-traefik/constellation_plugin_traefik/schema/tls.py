"""Named TLS options, as routes refer to them, and how Traefik reaches the instances."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from constellation_plugin_traefik.schema.base import (
    Bool,
    Duration,
    Element,
    Int,
    Str,
    Text,
    Texts,
    TraefikModel,
)

Version = Literal["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]
CipherSuite = Literal[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
]
Curve = Literal[
    "secp256r1",
    "secp384r1",
    "secp521r1",
    "CurveP256",
    "CurveP384",
    "CurveP521",
    "X25519",
    "x25519",
    "X25519MLKEM768",
]


class ClientAuth(TraefikModel):
    """Which client certificates are asked for."""

    ca_files: Annotated[tuple[Element, ...], Field(min_length=1)] | None = None
    client_auth_type: Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ]


class TLSOptions(TraefikModel):
    """https://doc.traefik.io/traefik/https/tls/#tls-options"""

    min_version: Version | None = None
    max_version: Version | None = None
    cipher_suites: tuple[CipherSuite, ...] = ()
    curve_preferences: tuple[Curve, ...] = ()
    client_auth: ClientAuth | None = None
    sni_strict: Bool | None = None
    alpn_protocols: Texts = Field(default=(), alias="alpnProtocols")
    disable_session_tickets: Bool | None = None
    prefer_server_cipher_suites: Bool | None = None
    """Ignored by Traefik, and kept for configurations that still have it."""


class ForwardingTimeouts(TraefikModel):
    """Limits for one request to an instance."""

    dial_timeout: Duration | None = None
    response_header_timeout: Duration | None = None
    idle_conn_timeout: Duration | None = None
    read_idle_timeout: Duration | None = None
    ping_timeout: Duration | None = None


class ClientCertificate(TraefikModel):
    """Files on Traefik's host, or PEM texts."""

    cert_file: Text
    key_file: SecretStr


class Spiffe(TraefikModel):
    """SPIFFE identities of the instances."""

    may_be_empty = True
    ids: Texts = ()
    trust_domain: Str | None = None


class ServersTransport(TraefikModel):
    """https://doc.traefik.io/traefik/routing/services/#serverstransport_1"""

    server_name: Str | None = None
    insecure_skip_verify: Bool | None = None
    root_cas: Texts = Field(default=(), alias="rootCAs")
    certificates: tuple[ClientCertificate, ...] = ()
    cipher_suites: tuple[CipherSuite, ...] = ()
    min_version: Version | None = None
    max_version: Version | None = None
    max_idle_conns_per_host: Int | None = None
    forwarding_timeouts: ForwardingTimeouts | None = None
    disable_http2: Bool | None = Field(default=None, alias="disableHTTP2")
    peer_cert_uri: Str | None = Field(default=None, alias="peerCertURI")
    spiffe: Spiffe | None = None
