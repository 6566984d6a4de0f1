"""Types of settings that are stricter than Python's own: numbers, paths, lists, names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

Flag = Annotated[bool, Field(strict=True)]
"""``true`` or ``false``; no words, no numbers."""

Whole = Annotated[int, Field(strict=True)]
"""An integer; no string of digits, no ``true``."""

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number; no string of digits, not infinite."""


def _no_flag(value: Any) -> Any:
    # Python takes true for 1, and so does a Literal.
    if isinstance(value, bool):
        raise ValueError("expected 1, 3, 5 or 7")
    return value


Voters = Annotated[Literal[1, 3, 5, 7], BeforeValidator(_no_flag)]
"""An odd number: an even one more bears no loss more."""

LONGEST_SOCKET_PATH = 107
"""Bytes that fit into Linux's ``sockaddr_un`` beside the closing zero (unix(7))."""

_DOMAIN_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Folders:
    """What relative paths are relative to; the validation context of the sections.

    Attributes:
        config: the folder of agent.toml.
        data: ``[agent] data_dir``.
        secrets: ``[agent] secrets_path``.
    """

    config: Path
    data: Path
    secrets: Path


def _path_text(value: Any) -> Any:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a path, as a string")
    if not value.strip():
        raise ValueError("expected a path, found an empty string")
    if "\0" in value:
        raise ValueError("expected a path; it holds a zero byte")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("'~' cannot be resolved: there is no such home folder") from None


def _against(folder: str) -> AfterValidator:
    def resolve(path: Path, info: ValidationInfo) -> Path:
        # Without a context (settings made in code) paths stay as they were given.
        if not isinstance(info.context, Folders):
            return path
        base: Path = getattr(info.context, folder)
        # '..' stays: behind a symbolic link it means something else than its removal.
        return base / path

    return AfterValidator(resolve)


ConfigPath = Annotated[Path, BeforeValidator(_path_text), _against("config")]
"""A path; a relative one is relative to the folder of agent.toml.

Like every validator, it sees a default only where the model says ``validate_default=True``.
"""

DataPath = Annotated[Path, BeforeValidator(_path_text), _against("data")]
"""A path; a relative one is relative to ``[agent] data_dir``."""

SecretPath = Annotated[Path, BeforeValidator(_path_text), _against("secrets")]
"""A path; a relative one is relative to ``[agent] secrets_path``."""


def check_socket_path(path: Path) -> Path:
    """Refuse a path that the system cannot bind a unix socket to.

    Raises:
        ValueError: with the length and what to do.
    """
    length = len(str(path).encode())
    if length > LONGEST_SOCKET_PATH:
        raise ValueError(
            f"the socket's path has {length} bytes, the system allows {LONGEST_SOCKET_PATH}: "
            f"{path} (set a shorter [api] socket or [agent] data_dir)"
        )
    return path


def _socket_mode(value: Any) -> str:
    expected = 'expected an octal file mode in quotes, such as "0660"'
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(expected)
    mode = int(value, 8)
    if mode & 0o007:
        raise ValueError(f"{expected}; the last digit must be 0, others control nothing")
    if mode & 0o600 != 0o600:
        raise ValueError(f"{expected}; the owner must be able to read and write")
    return f"{mode:04o}"


SocketMode = Annotated[str, BeforeValidator(_socket_mode)]
"""Four octal digits; owner ``rw`` at least, others nothing."""


def _domain(value: str) -> str:
    name = value.strip().lower().removesuffix(".")
    if name and (
        len(name) > 253 or not all(_DOMAIN_LABEL.fullmatch(label) for label in name.split("."))
    ):
        raise ValueError("expected a domain name, such as example.com (IDNA names as xn--...)")
    return name


DomainName = Annotated[str, AfterValidator(_domain)]
"""A DNS name in lower case without the last dot, or ``""``."""

_Item = TypeVar("_Item")


def _no_repeats(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"'{item}' stands there twice")
    return items


NoRepeats = Annotated[tuple[_Item, ...], AfterValidator(_no_repeats)]
"""A list in which nothing stands twice."""


def freeze(value: Any) -> Any:
    """An immutable copy of what TOML gives: tables as read-only mappings, arrays as tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(each) for each in value)
    return value


def thaw(value: Any) -> Any:
    """The opposite of :func:`freeze`: plain dicts and lists, as validators expect them."""
    if isinstance(value, Mapping):
        return {key: thaw(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [thaw(each) for each in value]
    return value
