"""What the document has from the settings alone."""

from __future__ import annotations

from constellation_plugin_traefik.config import RETRY, RETRY_IN_FLIGHT, TRANSPORT, TraefikConfig
from constellation_plugin_traefik.encoding import to_json

# Two tries, the first one included. What got no answer at all is RETRY's part.
_IN_FLIGHT: dict[str, object] = {
    "attempts": 2,
    "status": ["502"],
    "disableRetryOnNetworkError": True,
}


class Fixed:
    """The members of the document that follow from the settings.

    Attributes:
        http_transports, tcp_transports: members of ``serversTransports``.
        tcp_middlewares: members of ``tcp.middlewares``.
        tls: members of ``tls``.
        needed_services: services of this document that a middleware of kind ``errors`` needs, by
            the middleware's name.
    """

    def __init__(self, config: TraefikConfig) -> None:
        self._own = {name: each.plain() for name, each in config.middlewares.items()}
        retries: dict[str, dict[str, object]] = {}
        if config.retry_attempts:
            retry: dict[str, object] = {"attempts": config.retry_attempts}
            if config.retry_interval:
                retry["initialInterval"] = f"{max(1, round(config.retry_interval * 1000))}ms"
            retries[RETRY] = {"retry": retry}
        if config.retry_in_flight:
            retries[RETRY_IN_FLIGHT] = {"retry": _IN_FLIGHT}
        self._with_retries = {**self._own, **retries}
        transport = config.http_transport()
        self.http_transports = _members({TRANSPORT: transport.plain()} if transport else {})
        self.tcp_middlewares = _members(
            {name: each.plain() for name, each in config.tcp_middlewares.items()}
        )
        dial = f"{max(1, round(config.dial_timeout * 1000))}ms"
        self.tcp_transports = _members(
            {TRANSPORT: {"dialTimeout": dial}} if config.dial_timeout else {}
        )
        options = {name: each.plain() for name, each in config.tls.options.items()}
        self.tls = f'"options":{to_json(options)}'.encode() if options else b""
        self.needed_services = {
            name: each.errors.service.removesuffix("@http")
            for name, each in config.middlewares.items()
            if each.errors is not None and "@" not in each.errors.service.removesuffix("@http")
        }
        self._texts = {True: _members(self._with_retries), False: _members(self._own)}

    def http_middlewares(self, routed: bool) -> bytes:
        """Members of ``http.middlewares``; the plugin's own only where there are routers."""
        return self._texts[routed]


def _members(value: dict[str, dict[str, object]]) -> bytes:
    return to_json(value)[1:-1].encode()
