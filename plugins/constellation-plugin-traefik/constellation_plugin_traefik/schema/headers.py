"""The middleware that sets, removes and guards headers."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, StrictStr, model_validator

from constellation_plugin_traefik.schema.base import (
    Bool,
    Int,
    Regexp,
    Str,
    Text,
    TextMap,
    Texts,
    TraefikModel,
    to_plain,
)

SecretMap = dict[Text, SecretStr]


class Headers(TraefikModel):
    """https://doc.traefik.io/traefik/middlewares/http/headers/

    The values of custom headers count as secrets: they are where tokens are put.
    """

    custom_request_headers: SecretMap = Field(default_factory=dict)
    custom_response_headers: SecretMap = Field(default_factory=dict)
    access_control_allow_credentials: Bool | None = None
    access_control_allow_headers: Texts = ()
    access_control_allow_methods: Texts = ()
    access_control_allow_origin_list: Texts = ()
    access_control_allow_origin_list_regex: tuple[Regexp, ...] = ()
    access_control_expose_headers: Texts = ()
    access_control_max_age: Int | None = None
    add_vary_header: Bool | None = None
    allowed_hosts: Texts = ()
    hosts_proxy_headers: Texts = ()
    ssl_proxy_headers: TextMap = Field(default_factory=dict)
    sts_seconds: Int | None = None
    sts_include_subdomains: Bool | None = None
    sts_preload: Bool | None = None
    force_sts_header: Bool | None = Field(default=None, alias="forceSTSHeader")
    frame_deny: Bool | None = None
    custom_frame_options_value: Str | None = None
    content_type_nosniff: Bool | None = None
    browser_xss_filter: Bool | None = None
    custom_browser_xss_value: Str | None = Field(default=None, alias="customBrowserXSSValue")
    content_security_policy: Str | None = None
    content_security_policy_report_only: Str | None = None
    public_key: Str | None = None
    referrer_policy: Str | None = None
    permissions_policy: Str | None = None
    is_development: Bool | None = None
    feature_policy: StrictStr | None = None
    """Deprecated by Traefik, like the ``ssl`` fields below."""
    ssl_redirect: Bool | None = None
    ssl_temporary_redirect: Bool | None = None
    ssl_host: Str | None = None
    ssl_force_host: Bool | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        # Traefik: "headers configuration not valid".
        values = [to_plain(getattr(self, name)) for name in type(self).model_fields]
        if all(value is None or value is False or value == "" for value in values):
            raise ValueError("sets nothing: at least one header or one true switch is needed")
        return self
