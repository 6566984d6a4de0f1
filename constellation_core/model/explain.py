"""Tells what is wrong with a definition, so that it can be mended.

Values stand in no message unless a validator of the model put them there on purpose: they may
be secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from constellation_core.model.definitions import DEFINITIONS
from constellation_core.model.words import did_you_mean, listed, nearest

_MESSAGES = {
    "missing": "is missing",
    "missing_argument": "is missing",
    "tuple_type": "expected a list of values, such as ('a', 'b')",
    "dict_type": "expected a table, such as {'NAME': 'value'}",
    "string_type": "expected text, in quotes",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected True or False",
    "bool_parsing": "expected True or False",
}
_UNKNOWN = frozenset({"unexpected_keyword_argument", "extra_forbidden"})
_OF_A_UNION = frozenset(
    {"union_tag_invalid", "union_tag_not_found", "model_attributes_type", "dataclass_type"}
)
_ONE_OF = {
    "check": ("HTTPCheck(...)", "TCPCheck(...)", "ExecCheck(...)", "DriverCheck()"),
    "routes": ("Route(...)", "TCPRoute(...)"),
    "volumes": ("Volume(...)", "Bind(...)", "Tmpfs(...)"),
    "networks": ("the name of a network", "Network(...)"),
    "secrets": ("the name of a secret", "Secret(...)"),
    "depends_on": ("the name of a service", "Dependency(...)"),
}
_QUOTED = re.compile(r"'([^']*)'")


def explain_validation(error: ValidationError) -> str:
    """One line: what was being defined, then each field that is wrong, why and what to write."""
    found = error.errors(include_url=False)
    # A field that takes one of several types says of each why it is not that one: one is enough.
    lines: dict[str, str] = {}
    for problem in found:
        lines.setdefault(_place(error.title, problem["loc"]), _message(error.title, problem))
    parts = (f"{place}: {message}" if place else message for place, message in lines.items())
    told = "; ".join(parts)
    return told if told.startswith("service ") else f"{error.title}: {told}"


def unknown_fields(error: ValidationError) -> tuple[str, ...]:
    """The fields in what was validated that no definition has, by their place."""
    return tuple(
        _place(error.title, problem["loc"])
        for problem in error.errors(include_url=False, include_input=False)
        if problem["type"] in _UNKNOWN
    )


def _message(title: str, problem: Any) -> str:
    kind, loc = problem["type"], problem["loc"]
    context = problem.get("ctx", {})
    if kind in _UNKNOWN:
        known = _known_fields(title, loc)
        hint = did_you_mean(nearest(str(loc[-1]), known))
        if not hint and known and len(loc) == 1:
            hint = f"; known are {', '.join(known)}"
        return f"unknown{hint}"
    if kind == "unexpected_positional_argument":
        names = listed(_unnamed(title), "and")
        return f"only {names} can be given without a name; write NAME=VALUE"
    if kind == "literal_error":
        known = _QUOTED.findall(context["expected"])
        given = problem.get("input")
        near = nearest(given, known) if isinstance(given, str) else ""
        return f"expected {context['expected']}{did_you_mean(near)}"
    if kind in _OF_A_UNION:
        several = [name for name in _ONE_OF if name in map(str, loc)]
        return f"expected {_one_of(several, context)}"
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        number = context["min_length" if least else "max_length"]
        return f"needs at least {number}" if least else f"takes at most {number}"
    if kind in ("string_too_short", "string_too_long"):
        least = kind == "string_too_short"
        number = context["min_length" if least else "max_length"]
        return f"expected at {'least' if least else 'most'} {number} characters"
    message: str = _MESSAGES.get(kind) or problem["msg"]
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _one_of(several: Iterable[str], context: Any) -> str:
    for name in several:
        return listed(_ONE_OF[name])
    return f"{context.get('class_name', 'a definition')}(...)"


def _known_fields(title: str, loc: tuple[int | str, ...]) -> list[str]:
    """The fields among which a wrong one was meant: within a part, those of all parts."""
    if len(loc) == 1:
        return [each.name for each in _fields(title)]
    names = {each.name for name in DEFINITIONS if name != title for each in _fields(name)}
    return sorted(names)


def _place(title: str, loc: tuple[int | str, ...]) -> str:
    """``ports.0.number``; an argument without a name gets the one that it stands for."""
    if not loc:
        return ""
    first, rest = loc[0], loc[1:]
    if isinstance(first, int):
        names = _unnamed(title)
        first = names[first] if first < len(names) else f"argument {first + 1}"
    return ".".join(str(part) for part in (first, *_without_types(rest)))


def _without_types(loc: tuple[int | str, ...]) -> Iterable[int | str]:
    """Pydantic names the branch of a union, too; whoever wrote the definition does not know it."""
    for position, part in enumerate(loc, 1):
        inner = position < len(loc)
        if isinstance(part, int) or not (
            part in ("str", "int") or _OF_PYDANTIC.search(part) or (inner and part in _BRANCHES)
        ):
            yield part


_OF_PYDANTIC = re.compile(r"[\[\]()]")
_BRANCHES = frozenset({"http", "tcp", "exec", "driver", "volume", "bind", "tmpfs", *DEFINITIONS})


def _unnamed(title: str) -> list[str]:
    """The fields whose values may be given without a name."""
    return [each.name for each in _fields(title) if not each.kw_only]


def _fields(title: str) -> list[Any]:
    kind = DEFINITIONS.get(title)
    return [] if kind is None else [each for each in fields(kind) if each.name != "kind"]
