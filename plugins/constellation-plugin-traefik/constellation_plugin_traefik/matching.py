"""From a route's hosts and path to a rule of Traefik's."""

from __future__ import annotations

import re

from constellation_core.model.route import Route, TCPRoute
from constellation_plugin_traefik.encoding import to_json
from constellation_plugin_traefik.problems import RouteError
from constellation_plugin_traefik.rules import check_http_rule, check_sni

_PLAIN = re.compile(r"[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+\.?")
_WILDCARD = re.compile(r"\*((?:\.[A-Za-z0-9_-]+)+)\.?")
_UNFIT_IN_PATH = re.compile("[`\x00-\x20\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff]")
DEFAULT_OPTIONS = "default"
"""The TLS options of routes that name none."""

_LABEL_PATTERN = "[A-Za-z0-9_-]+"
_NO_DOMAIN = ": its owner has no [agent] domain to fill in"


def http_rule(route: Route) -> tuple[str, str, int | None]:
    """The rule of a route, the same as JSON, and the priority for a route that states none.

    Traefik ranks rules by their length. The pattern that stands for a wildcard host would so
    win over the exact name of a host, so a rule with one gets the rank that its length would
    be without the ``*``: below every exact name in the same domain.

    Raises:
        RouteError: when the route cannot be made into a rule.
    """
    host = route.host
    if type(host) is str and route.path is None and _PLAIN.fullmatch(host):
        rule = f"Host(`{host.lower()}`)"
        return rule, f'"{rule}"', None  # Of the characters above none is special in JSON.
    if route.rule is not None:
        if "{domain}" in route.rule:
            raise RouteError(f"the rule {route.rule!r}{_NO_DOMAIN}")
        try:
            matchers = check_http_rule(route.rule)
            names = [each.values[0] for each in matchers if each.name == "Host"]
            if route.tls is not None:
                # Traefik makes a rule for the handshake, too, of each of them.
                for name in names:
                    check_sni(name)
        except ValueError as error:
            raise RouteError(str(error)) from None
        _require_host_for_options(route, bool(names))
        return route.rule, to_json(route.rule), None
    _require_host_for_options(route, any(map(_PLAIN.fullmatch, route.hosts)))
    hosts = [_host(host) for host in dict.fromkeys(route.hosts)]
    path = _path(route.path)
    rule = _join([matcher for matcher, _ in hosts], path)
    if all(matcher == plain for matcher, plain in hosts):
        return rule, to_json(rule), None
    return rule, to_json(rule), len(_join([plain for _, plain in hosts], path))


def _require_host_for_options(route: Route, has_host: bool) -> None:
    # Traefik would apply its default options, and say so in its log only.
    options = route.tls.options if route.tls is not None else None
    if options not in (None, DEFAULT_OPTIONS) and not has_host:
        raise RouteError(
            f"TLS options {options!r} hold for hosts, and the rule names none: add a host, "
            "without '*', that they are for"
        )


def sni_rule(route: TCPRoute) -> tuple[str, str, int | None]:
    """As :func:`http_rule`, for a TCP route's ``sni``."""
    if route.sni == "*":
        return "HostSNI(`*`)", '"HostSNI(`*`)"', None
    if route.tls is None:
        raise RouteError(f"sni={route.sni!r} needs tls=TLS(...)")
    if _PLAIN.fullmatch(route.sni):
        rule = f"HostSNI(`{route.sni.lower()}`)"
        return rule, to_json(rule), None
    suffix = _suffix(route.sni)
    rule = f"HostSNIRegexp(`^{_LABEL_PATTERN}{re.escape(suffix)}$`)"
    return rule, to_json(rule), len(f"HostSNI(`{suffix}`)")


def certificate_name(host: str) -> str:
    """A name that a certificate can be asked for.

    Raises:
        RouteError: when it is none.
    """
    if _PLAIN.fullmatch(host):
        return host.lower().removesuffix(".")
    return f"*{_suffix(host)}"


def _host(host: str) -> tuple[str, str]:
    """The matcher of a host, and the one that gives its rank."""
    if _PLAIN.fullmatch(host):
        matcher = f"Host(`{host.lower()}`)"
        return matcher, matcher
    if host == "*":
        return "HostRegexp(`^.+$`)", "Host(``)"
    suffix = _suffix(host)
    pattern = re.escape(suffix)
    return f"HostRegexp(`^{_LABEL_PATTERN}{pattern}$`)", f"Host(`{suffix}`)"


def _suffix(host: str) -> str:
    wildcard = _WILDCARD.fullmatch(host)
    if wildcard is None:
        if "{domain}" in host:
            raise RouteError(f"{host!r}{_NO_DOMAIN}")
        raise RouteError(f"{host!r} is no host name: a '*' stands only for the whole first label")
    return wildcard[1].lower()


def _path(path: str | None) -> str:
    if path is None:
        return ""
    if unfit := _UNFIT_IN_PATH.search(path):
        raise RouteError(f"the path {path!r} has the character U+{ord(unfit[0]):04X}")
    if "{domain}" in path:
        raise RouteError(f"the path {path!r}{_NO_DOMAIN}")
    return f"PathPrefix(`{path}`)"


def _join(hosts: list[str], path: str) -> str:
    either = " || ".join(hosts)
    if not path:
        return either
    if not either:
        return path
    return f"({either}) && {path}" if len(hosts) > 1 else f"{either} && {path}"
