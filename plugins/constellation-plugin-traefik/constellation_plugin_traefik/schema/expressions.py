"""The conditions of Traefik's circuitBreaker and buffering middlewares.

Both are Go expressions: calls of a few functions, compared with a literal of the same type,
joined with ``&&``, ``||`` and parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "float", "string", "bool"]

DEEPEST = 50

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<float>[0-9]+\.[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
      | (?P<int>0|[1-9][0-9]{0,17})(?![0-9A-Za-z_.])
      | (?P<string>`[^`\x00]*`|"[^"\\\n\x00]*")
      | (?P<compare>==|!=|<=|>=|<|>)
      | (?P<op>&&|\|\||[(),])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Function:
    gives: Kind
    takes: tuple[Kind, ...] = ()


_BREAKER: Mapping[str, _Function] = {
    "NetworkErrorRatio": _Function("float"),
    "LatencyAtQuantileMS": _Function("int", ("float",)),
    "ResponseCodeRatio": _Function("float", ("int", "int", "int", "int")),
}
_BUFFERING: Mapping[str, _Function] = {
    "IsNetworkError": _Function("bool"),
    "Attempts": _Function("int"),
    "ResponseCode": _Function("int"),
    "RequestMethod": _Function("string"),
}


def check_breaker(expression: str) -> str:
    """Return the condition of a circuitBreaker, when Traefik will take it.

    Raises:
        ValueError: with what is wrong.
    """
    _Reader(expression, _BREAKER).check()
    return expression


def check_buffering_retry(expression: str) -> str:
    """As :func:`check_breaker`, for buffering's retryExpression."""
    _Reader(expression, _BUFFERING).check()
    return expression


class _Reader:
    def __init__(self, text: str, functions: Mapping[str, _Function]) -> None:
        self._functions = functions
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self._depth = 0
        at = 0
        while not self._tokens or self._tokens[-1][0] != "end":
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None or "\n" in match[0].strip("\n"):
                raise ValueError(f"cannot read {text[at : at + 20].strip()!r}")
            kind = next(kind for kind, value in match.groupdict().items() if value is not None)
            self._tokens.append((kind, match[kind]))
            at = match.end()

    def check(self) -> None:
        self._joined()
        if self._peek()[0] != "end":
            raise ValueError(f"expected '&&', '||' or the end, found {self._peek()[1]!r}")

    def _joined(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"parentheses nest more than {DEEPEST} deep")
        self._condition()
        while self._peek()[1] in ("&&", "||"):
            self._at += 1
            self._condition()
        self._depth -= 1

    def _condition(self) -> None:
        if self._peek() == ("op", "("):
            self._at += 1
            self._joined()
            self._expect(")")
            return
        kind, name = self._next()
        function = self._functions.get(name)
        if kind != "name" or function is None:
            known = ", ".join(f"{each}()" for each in self._functions)
            raise ValueError(f"expected one of {known}, found {name or 'the end'!r}")
        self._expect("(")
        for number, wanted in enumerate(function.takes):
            if number:
                self._expect(",")
            self._literal(name, wanted)
        self._expect(")")
        if function.gives == "bool":
            return
        kind, operator = self._next()
        if kind != "compare":
            raise ValueError(f"{name}() must be compared with a value")
        if function.gives == "string" and operator not in ("==", "!="):
            raise ValueError(f"{name}() is a text: compare it with == or !=")
        self._literal(name, function.gives)

    def _literal(self, name: str, wanted: Kind) -> None:
        kind, text = self._next()
        if kind != wanted:
            example = {"int": "100", "float": "0.5", "string": '"GET"', "bool": ""}[wanted]
            raise ValueError(
                f"{name}() needs a value like {example} here, not {text or 'the end'!r}"
            )

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        if token[0] != "end":
            self._at += 1
        return token

    def _expect(self, text: str) -> None:
        token = self._next()
        if token != ("op", text):
            raise ValueError(f"expected {text!r}, found {token[1] or 'the end'!r}")
