"""How Traefik balances over a service's instances: the part that no instance changes."""

from __future__ import annotations

import re

from constellation_core.model.check import HTTPCheck
from constellation_core.model.port import Port, find_port
from constellation_core.model.published import PublishedService
from constellation_core.model.route import Route, Sticky
from constellation_plugin_traefik.encoding import to_json
from constellation_plugin_traefik.problems import RouteError

LONGEST_COOKIE = 400 * 86_400
"""Seconds; browsers cap a cookie's age at 400 days (RFC 6265bis, section 5.5)."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNFIT_IN_URL = re.compile("[\x00-\x20\x7f-\xa0\ud800-\udfff]")


def health_check(service: PublishedService, route: Route, port: Port) -> tuple[str, str]:
    """The ``healthCheck`` of a load balancer as JSON, and why there is none.

    Both are ``""`` where none is wanted. The service's own check is handed on only where
    Traefik's can never fail while the service's own passes, for else the proxy would take
    healthy instances out.
    """
    check = service.check
    if check is None or not route.balance_check:
        return "", ""
    if find_port(service.ports, check.port) is not port:
        return "", ""
    low, high = check.statuses
    if not (200 <= low <= high <= 399 or (low == high and 100 <= low <= 599)):
        return "", f"Traefik cannot check for the statuses {low} to {high}: it does not probe"
    reason = _unfit_path(check.path)
    if reason:
        return "", f"Traefik cannot probe {check.path!r} ({reason}): it does not probe"
    return to_json(_health_check(check, route)), ""


def _health_check(check: HTTPCheck, route: Route) -> dict[str, object]:
    result: dict[str, object] = {
        "interval": duration(check.interval),
        "path": check.path,
        "timeout": duration(check.timeout),
    }
    if check.scheme != route.scheme:
        result["scheme"] = check.scheme
    low, high = check.statuses
    if low == high:
        result["status"] = low
    return result


def _unfit_path(path: str) -> str:
    if path.startswith("//"):
        return "it would be taken for a host"
    if _UNFIT_IN_URL.search(path):
        return "it has a character that no URL has"
    if _BAD_ESCAPE.search(path):
        return "a '%' is not followed by two digits"
    return ""


def sticky_cookie(sticky: Sticky) -> str:
    """The ``sticky`` of a load balancer as JSON.

    Raises:
        RouteError: for an age that no browser keeps.
    """
    if sticky.max_age > LONGEST_COOKIE:
        raise RouteError(f"sticky max_age is more than {LONGEST_COOKIE} seconds (400 days)")
    cookie: dict[str, object] = {
        "httpOnly": sticky.http_only,
        "name": sticky.cookie,
        "secure": sticky.secure,
    }
    if sticky.max_age:
        cookie["maxAge"] = sticky.max_age
    if sticky.same_site is not None:
        cookie["sameSite"] = sticky.same_site
    return to_json({"cookie": cookie})


def duration(seconds: float) -> str:
    """Seconds as a duration of Traefik's, to the millisecond and never zero."""
    milliseconds = max(1, round(seconds * 1000))
    if milliseconds % 1000 == 0:
        return f"{milliseconds // 1000}s"
    return f"{milliseconds}ms"
