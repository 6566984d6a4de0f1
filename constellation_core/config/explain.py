"""What pydantic found wrong, told as problems with their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from constellation_core.config.annotations import holds_secret, keys_of, nested_fields
from constellation_core.config.environment import variable_of
from constellation_core.config.layers import Table
from constellation_core.config.problems import Problem, did_you_mean, nearest
from constellation_core.config.settings import SECTIONS

LONGEST_FOUND = 60
"""Characters of a value that are shown; of a longer one only the kind is told."""

MASK = "••••"

_UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_MISSING = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})

_EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "path_type": "a path, as a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number that is at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number that is at most {le}",
    "string_too_short": "a string of at least {min_length} characters",
    "string_too_long": "a string of at most {max_length} characters",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
}
"""By pydantic's error type; where one is not here, pydantic's own words are used."""


def explain(error: ValidationError, table: Table) -> list[Problem]:
    """One problem for each mistake; the alternatives of a union are told as one."""
    together: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        together.setdefault(_document_path(detail, table), []).append(detail)
    return [_explain_one(path, details, table) for path, details in together.items()]


def unknown_key(table: Table, key: str) -> Problem:
    """The problem of a key at the top of the table that its model does not know."""
    return _place((key,), table, *_unknown(table, key, list(keys_of(table.model))))


def _explain_one(path: tuple[str | int, ...], details: list[ErrorDetails], table: Table) -> Problem:
    first = details[0]
    kinds = {detail["type"] for detail in details}
    if kinds <= _UNKNOWN_KEY:
        known = list(_fields_at(table, path[:-1]))
        return _place(path, table, *_unknown(table, str(path[-1]), known))
    if kinds <= _MISSING:
        message = "missing, and it has no default"
        if len(path) == 1:
            message += f"; set it, or ${variable_of(table.name, str(path[0]))}"
        return _place(path, table, message)
    secret = _is_secret(path, table)
    if not secret and {"value_error", "assertion_error"} & kinds:
        said = next(each for each in details if each["type"] in ("value_error", "assertion_error"))
        message = said["msg"].partition(", ")[2] or said["msg"]
        found = _found(path, first, table)
        # Many validators tell the value themselves.
        if found and repr(first["input"]) not in message:
            message = f"{message} (found {found})"
        return _place(path, table, _redact(message, table), found=found)
    expected = " or ".join(dict.fromkeys(_expected(detail, secret) for detail in details))
    found = "" if secret else _found(path, first, table)
    message = f"expected {expected}"
    if secret:
        message += "; what is there is not shown, it is a secret"
    elif found:
        message += f", found {found}"
    return _place(path, table, _redact(message, table), expected=expected, found=found)


def _unknown(table: Table, key: str, known: list[str]) -> tuple[str, str, str, str]:
    near = nearest(key, known)
    message = f"unknown key{did_you_mean(near)}"
    homes = [name for name, model in SECTIONS.items() if key in keys_of(model)]
    if not near and homes and table.path[0] != "plugins":
        message += f"; it belongs under {' or '.join(f'[{home}]' for home in homes)}"
    elif not near and known and len(known) <= 12:
        message += f"; known are {', '.join(sorted(known))}"
    elif not near and not known:
        message += "; there are none"
    return message, "", "", near


def _place(
    path: tuple[str | int, ...],
    table: Table,
    message: str,
    expected: str = "",
    found: str = "",
    near: str = "",
) -> Problem:
    """A problem at ``path`` below the table; where the file has no such place, at the nearest."""
    key = ".".join((*table.path, *_names(path)))
    origin = table.origin(str(path[0])) if path else None
    if origin is not None and origin.source.startswith("$"):
        return Problem(message, origin.source, None, None, key, expected, found, near, table.name)
    places = table.sources.places
    full = (*table.path, *path)
    while full and full not in places:
        full = full[:-1]
    at = places.get(full)
    # What the environment alone makes up has no place in the file.
    line, column = (at.line, at.column) if at else (None, None)
    name = table.sources.name
    return Problem(message, name, line, column, key, expected, found, near, table.name)


def _names(path: tuple[str | int, ...]) -> Iterator[str]:
    """Parts of a dotted key; an index is told only where a key follows, ``routes[1].port``."""
    for index, part in enumerate(path):
        if isinstance(part, str):
            following = path[index + 1 : index + 3]
            inside = len(following) == 2 and isinstance(following[0], int)
            yield f"{part}[{following[0]}]" if inside else part


def _document_path(detail: ErrorDetails, table: Table) -> tuple[str | int, ...]:
    """pydantic's ``loc`` without what it adds: the names of a union's members."""
    path: tuple[str | int, ...] = ()
    value: Any = table.values
    for part in detail["loc"]:
        inside = (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            path = (*path, part)
        elif detail["type"] in _MISSING and part == detail["loc"][-1]:
            path = (*path, part)
        elif not path and isinstance(part, str):
            # A default that does not pass.
            path = (part,)
    return path


def _fields_at(table: Table, path: tuple[str | int, ...]) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = {
        key: field.annotation for key, field in keys_of(table.model).items()
    }
    for part in path:
        if isinstance(part, str) and part in fields:
            fields = nested_fields(fields[part]) or {}
    return fields


def _expected(detail: ErrorDetails, secret: bool) -> str:
    template = _EXPECTED.get(detail["type"])
    if template is not None:
        return template.format_map(detail.get("ctx") or {})
    if secret:
        return "another value"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _is_secret(path: tuple[str | int, ...], table: Table) -> bool:
    field = keys_of(table.model).get(str(path[0])) if path else None
    return field is not None and holds_secret(field.annotation)


def _found(path: tuple[str | int, ...], detail: ErrorDetails, table: Table) -> str:
    """The value as it is written, or its kind when it is long."""
    if not path:
        return ""
    text = table.texts.get(str(path[0]))
    if text is not None:
        written = repr(text)
    else:
        place = table.sources.places.get((*table.path, *path))
        written = place.text if place else ""
        if not written and isinstance(detail["input"], str):
            written = repr(detail["input"])
    if 0 < len(written) <= LONGEST_FOUND and "\n" not in written:
        return written
    kinds: dict[type, str] = {dict: "a table", list: "a list", str: "a string"}
    return kinds.get(type(detail["input"]), "")


def _redact(message: str, table: Table) -> str:
    """Mask what secret fields hold, should a validator have told it."""
    for key, field in keys_of(table.model).items():
        if key in table.values and holds_secret(field.annotation):
            for value in sorted(_strings(table.values[key]), key=len, reverse=True):
                message = message.replace(value, MASK)
    return message


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
