"""Traefik v3's rule language: is this a rule that Traefik will take?

Traefik reads a rule as a Go expression: matchers called with string literals, joined with
``&&``, ``||``, ``!`` and parentheses (https://doc.traefik.io/traefik/routing/routers/#rule).
This reads the same language and checks what each matcher asks of its values, so that a rule
that Traefik would disable is found before it is sent, with the place of the error.

Narrower than Go's grammar in what nobody writes: no comments, no ``...``, not more than
:data:`DEEPEST` operators inside each other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from constellation_plugin_traefik.goregexp import check_regexp

DEEPEST = 100

_TOKEN = re.compile(
    r"""[ \t\r]*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<raw>`[^`]*`)
      | (?P<quoted>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<op>&&|\|\||[!(),])
      | (?P<newline>\n)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(
    r"""\\(?:(?P<simple>[abfnrtv\\"])|(?P<octal>[0-3][0-7]{2})|x(?P<byte>[0-9A-Fa-f]{2})"""
    r"""|u(?P<short>[0-9A-Fa-f]{4})|U(?P<long>[0-9A-Fa-f]{8})|(?P<bad>.))""",
    re.DOTALL,
)
_NEVER = re.compile("[\x00\ufeff]")
_SNI = re.compile(r"\*|(\*\.)?[A-Za-z0-9_.-]+")


class RuleError(ValueError):
    """A rule that Traefik would not take."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One call in a rule, such as ``Header(`X-Kind`, `a`)``: the name in Traefik's own spelling,
    and the values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


Check = Callable[[str], None]


def check_http_rule(rule: str) -> tuple[Matcher, ...]:
    """Check the rule of an HTTP router.

    Returns:
        Its matchers, from left to right.

    Raises:
        RuleError: with what is wrong, and where.
    """
    return _Parser(rule, _HTTP).parse()


def check_tcp_rule(rule: str) -> tuple[Matcher, ...]:
    """As :func:`check_http_rule`, for a TCP router."""
    return _Parser(rule, _TCP).parse()


class _Parser:
    def __init__(self, rule: str, matchers: Mapping[str, _Signature]) -> None:
        self._rule = rule
        self._signatures = matchers
        self._spellings = {
            spelling: name
            for name in matchers
            for spelling in (name, name.lower(), name.upper(), name.capitalize())
        }
        self._found: list[Matcher] = []
        self._position = 0
        self._depth = 0
        self._tokens: list[_Token] = []

    def parse(self) -> tuple[Matcher, ...]:
        if odd := _NEVER.search(self._rule):
            self._refuse(f"the character U+{ord(odd[0]):04X} cannot stand in a rule", odd.start())
        if surrogate := re.search("[\ud800-\udfff]", self._rule):
            self._refuse("half of a surrogate pair is no character", surrogate.start())
        self._tokens = self._scan()
        self._alternatives()
        token = self._peek()
        if token.kind != "end":
            self._refuse(f"expected '&&', '||' or the end, found {token.text!r}", token.at)
        return tuple(self._found)

    def _scan(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while True:
            match = _TOKEN.match(self._rule, at)
            if match is None or match.lastgroup is None:
                start = at + len(self._rule[at:]) - len(self._rule[at:].lstrip(" \t\r"))
                self._refuse(f"cannot read {self._rule[start : start + 10]!r}", start)
            kind, text = match.lastgroup, match[match.lastgroup]
            token = _Token(kind, text, match.start(kind))
            at = match.end()
            if kind == "newline":
                # Go ends an expression at a line's end, unless an operator asks for more.
                ends = tokens and (tokens[-1].kind != "op" or tokens[-1].text == ")")
                if ends and self._rule[at:].strip(" \t\r\n"):
                    self._refuse("a line ends here; put '&&', '||', '(' or ',' before it", token.at)
                continue
            tokens.append(token)
            if kind == "end":
                return tokens

    def _alternatives(self) -> None:
        self._conjunction()
        while self._accept("||"):
            self._conjunction()

    def _conjunction(self) -> None:
        self._unary()
        while self._accept("&&"):
            self._unary()

    def _unary(self) -> None:
        token = self._peek()
        self._depth += 1
        if self._depth > DEEPEST:
            self._refuse(f"more than {DEEPEST} operators inside each other", token.at)
        if self._accept("!"):
            self._unary()
        elif self._accept("("):
            self._alternatives()
            self._expect(")")
        elif token.kind == "name":
            self._call()
        elif token.kind == "end":
            self._refuse("a matcher is missing at the end", token.at)
        else:
            self._refuse(f"expected a matcher, found {token.text!r}", token.at)
        self._depth -= 1

    def _call(self) -> None:
        token = self._next()
        name = self._spellings.get(token.text)
        if name is None:
            known = ", ".join(sorted(self._signatures))
            self._refuse(f"unknown matcher {token.text!r}; there are {known}", token.at)
        self._expect("(")
        values = []
        while not self._accept(")"):
            values.append(self._value())
            if not self._accept(","):
                self._expect(")")
                break
        self._check(name, values, token.at)
        self._found.append(Matcher(name, tuple(values)))

    def _check(self, name: str, values: list[str], at: int) -> None:
        signature = self._signatures[name]
        if len(values) not in signature.counts:
            counts = " or ".join(map(str, signature.counts))
            self._refuse(f"{name} takes {counts} values, not {len(values)}", at)
        if "" in values:
            self._refuse(f"{name} has an empty value", at)
        # A name and a pattern: the check is for the pattern.
        if len(values) == signature.counts[-1]:
            try:
                signature.check(values[-1])
            except ValueError as error:
                self._refuse(f"{name}: {error}", at)

    def _value(self) -> str:
        token = self._next()
        if token.kind == "raw":
            return token.text[1:-1].replace("\r", "")
        if token.kind == "quoted":
            return self._unquote(token)
        return self._refuse(f'expected a value in `…` or "…", found {token.text!r}', token.at)

    def _unquote(self, token: _Token) -> str:
        # Go's strings are bytes: \xff is one byte, which need not be UTF-8.
        out = bytearray()
        end = 1
        for match in _ESCAPE.finditer(token.text, 1, len(token.text) - 1):
            out += token.text[end : match.start()].encode()
            end = match.end()
            if simple := match["simple"]:
                out += _SIMPLE.get(simple, simple).encode()
            elif match["octal"] or match["byte"]:
                out.append(int(match["octal"], 8) if match["octal"] else int(match["byte"], 16))
            else:
                code = int(match["short"] or match["long"] or "d800", 16)
                if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                    self._refuse(f"unknown escape {match[0]!r}", token.at)
                out += chr(code).encode()
        out += token.text[end:-1].encode()
        return out.decode(errors="replace")

    def _peek(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        token = self._tokens[self._position]
        if token.kind != "end":
            self._position += 1
        return token

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token.kind == "op" and token.text == text:
            self._position += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        token = self._peek()
        if not self._accept(text):
            self._refuse(f"expected {text!r}, found {token.text or 'the end'!r}", token.at)

    def _refuse(self, message: str, at: int) -> NoReturn:
        raise RuleError(f"{message} (at character {at + 1} of the rule)")


@dataclass(frozen=True, slots=True)
class _Signature:
    counts: tuple[int, ...]
    check: Check


def _anything(_value: str) -> None:
    pass


def _ascii(value: str) -> None:
    if not value.isascii():
        raise ValueError("only ASCII is allowed; write international names in their xn-- form")


def _ascii_regexp(value: str) -> None:
    _ascii(value)
    check_regexp(value)


def _path(value: str) -> None:
    if not value.startswith("/"):
        raise ValueError("a path begins with '/'")


def _address(value: str) -> None:
    if "%" in value:
        raise ValueError("an address with a zone cannot be used")
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is neither an IP address nor a CIDR range") from None
    if "/" in value and not value.rpartition("/")[2].isdecimal():
        raise ValueError("the length of a CIDR range is a number of bits")


def check_sni(value: str) -> None:
    """Refuse what cannot be a name in a TLS handshake.

    Raises:
        ValueError: naming it.
    """
    if not _SNI.fullmatch(value):
        raise ValueError(f"{value!r} is not a host name")


def _alpn(value: str) -> None:
    if value == "acme-tls/1":
        raise ValueError("acme-tls/1 is Traefik's own")


_HTTP: Mapping[str, _Signature] = {
    "ClientIP": _Signature((1,), _address),
    "Header": _Signature((2,), _anything),
    "HeaderRegexp": _Signature((2,), check_regexp),
    "Host": _Signature((1,), _ascii),
    "HostRegexp": _Signature((1,), _ascii_regexp),
    "Method": _Signature((1,), _anything),
    "Path": _Signature((1,), _path),
    "PathPrefix": _Signature((1,), _path),
    "PathRegexp": _Signature((1,), check_regexp),
    "Query": _Signature((1, 2), _anything),
    "QueryRegexp": _Signature((1, 2), check_regexp),
}
_TCP: Mapping[str, _Signature] = {
    "ALPN": _Signature((1,), _alpn),
    "ClientIP": _Signature((1,), _address),
    "HostSNI": _Signature((1,), check_sni),
    "HostSNIRegexp": _Signature((1,), _ascii_regexp),
}
