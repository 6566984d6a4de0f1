"""Questions about the types of a model's fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

_SECRETS = (SecretStr, SecretBytes, Secret)


def key_of(name: str, field: FieldInfo) -> str:
    """What the field is called in agent.toml: its alias, where it has one."""
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by their keys in agent.toml, without those that are not written there.

    The latter say ``json_schema_extra={"internal": True}``.
    """
    return {
        key_of(name, field): field
        for name, field in model.model_fields.items()
        if not extra(field).get("internal")
    }


def alias_variable(field: FieldInfo) -> str:
    """The variable that gives the default (``json_schema_extra={"env": ...}``), or ``""``."""
    return str(extra(field).get("env", ""))


def extra(field: FieldInfo) -> Mapping[str, Any]:
    """The field's ``json_schema_extra``, where that is a table."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def parts(annotation: Any) -> Iterator[Any]:
    """The annotation and all that it is made from: members of unions, items, values."""
    yield annotation
    for each in get_args(annotation):
        yield from parts(each)


def members(annotation: Any) -> list[Any]:
    """The alternatives of a union, without ``None``; of another type, the type itself."""
    if get_origin(annotation) is not None and _is_union(annotation):
        return [each for part in get_args(annotation) for each in members(part)]
    if hasattr(annotation, "__metadata__"):
        return members(get_args(annotation)[0])
    return [] if annotation in (None, NoneType) else [annotation]


def is_list(annotation: Any) -> bool:
    """Whether a value is a list of something (tuple, set ... included)."""
    origin = get_origin(annotation) or annotation
    kinds = (list, tuple, set, frozenset, Sequence)
    return (
        isinstance(origin, type)
        and not issubclass(origin, str | bytes)
        and (origin in kinds or issubclass(origin, list | tuple | set | frozenset))
    )


def nested_fields(annotation: Any) -> dict[str, Any] | None:
    """Annotations by key of the first model or dataclass within the annotation, or ``None``."""
    for part in parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return {key: field.annotation for key, field in keys_of(part).items()}
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return get_type_hints(part)
    return None


def holds_secret(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether a value of this type may hold a ``SecretStr`` or its like, at any depth."""
    for part in parts(annotation):
        if get_origin(part) is Secret:
            return True
        if not isinstance(part, type) or part in seen:
            continue
        if issubclass(part, _SECRETS):
            return True
        if issubclass(part, BaseModel) or dataclasses.is_dataclass(part):
            inner = nested_fields(part) or {}
            if any(holds_secret(each, seen | {part}) for each in inner.values()):
                return True
    return False


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)
