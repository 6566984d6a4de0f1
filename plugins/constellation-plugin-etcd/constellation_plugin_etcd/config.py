"""The table ``[plugins.etcd]`` of agent.toml."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_PREFIX = re.compile(r"/(?:[A-Za-z0-9_.-]+/)+")


class EtcdConfig(BaseModel):
    """Settings of the plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoints: tuple[str, ...] = Field(
        min_length=1,
        description="Client URLs of the etcd members, as many as there are: "
        '`["https://10.0.0.1:2379", "https://10.0.0.2:2379"]`.',
    )
    prefix: str = Field(
        default="/constellation/",
        description="Begins every key of this fleet; two fleets on one etcd need two of them.",
    )
    user: str | None = Field(default=None, description="User of etcd, where it asks for one.")
    password_file: str | None = Field(
        default=None, description="Name of the secret with the user's password."
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) of who vouches for the members; else the system's.",
    )
    cert_file: Path | None = Field(
        default=None, description="This node's certificate (PEM), where etcd asks for one."
    )
    key_file: Path | None = Field(
        default=None, description="The key of `cert_file` (PEM), readable by its owner only."
    )

    @field_validator("endpoints")
    @classmethod
    def _are_urls(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in endpoints:
            # What is wrong is not repeated: there may be a password in it.
            try:
                url = urlsplit(endpoint)
                port, plain = url.port, url.path in ("", "/") and not url.query + url.fragment
            except ValueError:
                raise ValueError("an endpoint is no URL") from None
            if url.username is not None or url.password is not None:
                raise ValueError("an endpoint holds no user; set user and password_file")
            if url.scheme not in ("http", "https") or not url.hostname or port is None or not plain:
                raise ValueError("an endpoint is http:// or https://, a host and a port")
        if len({endpoint.rstrip("/") for endpoint in endpoints}) < len(endpoints):
            raise ValueError("an endpoint is there twice")
        return endpoints

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix) or len(prefix) > 128:
            raise ValueError("a prefix begins and ends with /, as in /constellation/")
        return prefix

    @model_validator(mode="after")
    def _fits_together(self) -> EtcdConfig:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        plain = [urlsplit(endpoint) for endpoint in self.endpoints if _is_plain(endpoint)]
        if plain and (self.ca_file or self.cert_file):
            raise ValueError("certificates are for https, and an endpoint is http")
        if self.user is not None and not all(_is_loopback(url.hostname) for url in plain):
            raise ValueError("a password is sent over https only, but for loopback addresses")
        return self


def _is_plain(endpoint: str) -> bool:
    return urlsplit(endpoint).scheme == "http"


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
