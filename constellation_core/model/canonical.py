"""A definition as data: what is stored, compared and sent, and never code.

The canonical form is JSON in ASCII with sorted keys, without white space, and without what has
its default value: equal definitions have the same bytes, and a definition that says less is
shorter. It carries the number of its schema. A reader takes the schemas up to its own
:data:`SCHEMA`, and refuses fields that it does not know: to leave out what it does not understand
could be to leave out a limit.

Since defaults are left out, a default must never change within a schema; nor may a field get
another meaning. Whoever must do either raises :data:`SCHEMA`, and translates older ones in
:func:`from_canonical`. A new field needs no new number: definitions that do not use it stay as
they are, also for agents that do not know it yet.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from constellation_core.model.effects import IN_PLACE
from constellation_core.model.explain import explain_validation, unknown_fields
from constellation_core.model.service import Service

SCHEMA = 1
"""The schema that is written, and the highest that is read."""

MAX_BYTES = 48 * 1024
"""The longest canonical form: it fits into one value of the replicated store, with its revision."""

_HASH_VERSION = "1"
"""Part of every hash: another way to hash gives other hashes, never the same by chance."""


class DefinitionError(ValueError):
    """Data that is no definition this version can use; the text says why, for people."""


def to_plain(service: Service) -> dict[str, Any]:
    """``service`` as maps, lists, text and numbers, without what has its default value."""
    plain: dict[str, Any] = _plain(service)
    return plain


def to_canonical(service: Service) -> bytes:
    """The canonical form of ``service``.

    Raises:
        DefinitionError: when it has more than :data:`MAX_BYTES`.
    """
    text = _dump({"schema": SCHEMA, "service": to_plain(service)})
    if len(text) > MAX_BYTES:
        raise DefinitionError(
            f"service {service.name!r}: its definition has {len(text)} bytes, at most {MAX_BYTES} "
            "are allowed; put long texts into files below config_path, and mount them as Bind(...)"
        )
    return text


def from_canonical(data: bytes | str) -> Service:
    """The inverse of :func:`to_canonical`, for what comes from a store or from another node.

    Raises:
        DefinitionError: when it is no such form, comes from a newer version, or would not be
            accepted in a services file.
    """
    try:
        form = json.loads(data, object_pairs_hook=_unambiguous, parse_constant=_no_number)
    except DefinitionError:
        raise
    except (ValueError, RecursionError):
        raise DefinitionError("a definition that is not JSON") from None
    if not isinstance(form, dict) or not isinstance(form.get("service"), dict):
        raise DefinitionError('a definition is a table with "schema" and "service"')
    schema = form.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise DefinitionError('a definition has the number of its "schema", 1 or more')
    name = _shown_name(form["service"])
    if schema > SCHEMA:
        raise DefinitionError(
            f"{name} is written in schema {schema}, and this version of Constellation reads up to "
            f"{SCHEMA}: upgrade it here"
        )
    return from_plain(form["service"], beside=set(form) - {"schema", "service"})


def from_plain(plain: dict[str, Any], *, beside: set[str] | None = None) -> Service:
    """The inverse of :func:`to_plain`.

    Args:
        plain: the definition.
        beside: unknown fields found beside it, told together with those in it.

    Raises:
        DefinitionError: as :func:`from_canonical`.
    """
    unknown = sorted(beside or ())
    try:
        service = _ADAPTER.validate_python(plain)
    except ValidationError as error:
        unknown += unknown_fields(error)
        if not unknown:
            raise DefinitionError(f"{_shown_name(plain)}: {explain_validation(error)}") from None
    if unknown:
        names = f"the field{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown))}"
        raise DefinitionError(
            f"{_shown_name(plain)} has {names}, which this version of Constellation does not "
            "know: a newer one wrote it; upgrade it here"
        )
    return service


def definition_hash(service: Service) -> str:
    """Changes when anything in the definition does."""
    return _hash(to_plain(service))


def instance_hash(service: Service) -> str:
    """Changes when an instance must be made anew to be as the definition wants it.

    It covers what an instance is made from, and not what :data:`~constellation_core.model.effects
    .IN_PLACE` lists, such as routes or the number of replicas.
    """
    plain = to_plain(service)
    for path in IN_PLACE:
        field, _, inner = path.partition(".")
        if not inner:
            plain.pop(field, None)
        elif field in plain:
            plain[field].pop(inner, None)
            if not plain[field]:
                del plain[field]
    return _hash(plain)


_ADAPTER: TypeAdapter[Service] = TypeAdapter(Service)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        defaults = _defaults(type(value))
        return {
            name: _plain(each)
            for name, default in defaults.items()
            # Its kind tells a reader what it is, so it is never left out.
            if (each := getattr(value, name)) != default or name == "kind"
        }
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    # Minus zero equals zero, but is written otherwise.
    return value + 0.0 if isinstance(value, float) else value


@cache
def _defaults(kind: type) -> dict[str, Any]:
    """The fields of a definition with their defaults; ``MISSING`` for those that have none."""
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(kind)
    }


def _dump(form: Any) -> bytes:
    return json.dumps(form, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _hash(plain: dict[str, Any]) -> str:
    # Without the schema: a new one alone is no reason to make every instance anew.
    text = _dump({"hash": _HASH_VERSION, "service": plain})
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    form = dict(pairs)
    if len(form) != len(pairs):
        raise DefinitionError("a definition in which a field stands twice")
    return form


def _no_number(_: str) -> NoReturn:
    raise DefinitionError("a definition with a number that is none")


def _shown_name(plain: dict[str, Any]) -> str:
    name = plain.get("name")
    return f"the definition of {name!r}" if isinstance(name, str) else "a definition"
