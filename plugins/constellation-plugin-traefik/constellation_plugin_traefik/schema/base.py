"""What all models of Traefik's configuration share."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Secret,
    SecretStr,
    StrictBool,
    StrictStr,
    model_validator,
)
from pydantic.alias_generators import to_camel

from constellation_plugin_traefik.goregexp import check_regexp

REDACTED = "xxxx"
LIST_SEPARATOR = "║"
"""Traefik joins lists with this while it decodes, so no element can contain it."""

_DURATION = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 100 * 365 * 86_400.0
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?"
_REFERENCE = re.compile(rf"{_NAME}(@{_NAME})?")


def seconds_of(duration: str | int) -> float:
    """The length of a duration of Traefik's: ``"1m30s"``, or whole seconds.

    Raises:
        ValueError: when it is not one.
    """
    if isinstance(duration, int) or (duration.isascii() and duration.isdecimal()):
        total = float(duration)
    elif _DURATION.fullmatch(duration):
        total = math.fsum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(duration))
    else:
        raise ValueError(f"{duration!r} is not a duration such as '10s', '1m30s' or '250ms'")
    if not 0 <= total <= _LONGEST:
        raise ValueError("a duration is between 0 and 100 years")
    return total


def _check_duration(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("a duration is a text such as '10s', or whole seconds")
    seconds_of(value)
    return value


def _check_regexp(value: str) -> str:
    check_regexp(value)
    return value


def check_network(value: str) -> str:
    """Return ``value`` when it is an IP address or a CIDR range.

    Raises:
        ValueError: when it is neither.
    """
    try:
        if "%" in value or not value.rpartition("/")[2][-1:].isalnum():
            raise ValueError
        ipaddress.ip_network(value, strict=False)
        if "/" in value and not value.rpartition("/")[2].isdecimal():
            raise ValueError
    except ValueError:
        raise ValueError(f"{value!r} is neither an IP address nor a CIDR range") from None
    return value


def _check_element(value: str) -> str:
    if LIST_SEPARATOR in value:
        raise ValueError(f"Traefik cannot have {LIST_SEPARATOR!r} in a list")
    return value


def check_reference(value: str) -> str:
    """Return ``value`` when it can name an object of Traefik's: ``NAME`` or ``NAME@PROVIDER``.

    Raises:
        ValueError: when it cannot.
    """
    if not _REFERENCE.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a usable name: letters, digits, '.', '_' and '-', "
            "and perhaps '@' with a provider's name"
        )
    return value


def _check_status_range(value: str) -> str:
    low, dash, high = value.partition("-")
    parts = [low, high] if dash else [low]
    if not all(part.isascii() and part.isdecimal() and 100 <= int(part) <= 599 for part in parts):
        raise ValueError(f"{value!r} is neither a status such as '503' nor a range '500-599'")
    if dash and int(low) > int(high):
        raise ValueError(f"the range {value!r} runs backwards")
    return value


Bool = StrictBool
Str = StrictStr
Text = Annotated[StrictStr, Field(min_length=1)]
Int = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
SignedInt = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
Status = Annotated[int, Field(strict=True, ge=100, le=599)]
StatusRange = Annotated[StrictStr, AfterValidator(_check_status_range)]
Duration = Annotated[str | int, BeforeValidator(_check_duration)]
Regexp = Annotated[StrictStr, Field(min_length=1), AfterValidator(_check_regexp)]
Element = Annotated[StrictStr, AfterValidator(_check_element)]
Reference = Annotated[StrictStr, AfterValidator(check_reference)]
Network = Annotated[StrictStr, AfterValidator(check_network)]
Texts = tuple[Element, ...]
TextMap = dict[Text, StrictStr]


class TraefikModel(BaseModel):
    """A struct of Traefik's configuration; its fields are named as Traefik names them."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        # Each is validated as part of a table of settings; few are ever validated by themselves.
        defer_build=True,
    )
    may_be_empty: ClassVar[bool] = False
    """Whether Traefik takes ``{}`` for it; elsewhere that loses the whole document."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.may_be_empty and not self.plain():
            known = ", ".join(
                field.alias or name for name, field in type(self).model_fields.items()
            )
            raise ValueError(f"needs at least one of: {known}")
        return self

    def plain(self, *, redact: bool = False) -> dict[str, Any]:
        """As JSON values under Traefik's names, without what is unset or empty.

        Args:
            redact: put :data:`REDACTED` in the place of every secret.
        """
        result = {}
        for name, info in type(self).model_fields.items():
            value = to_plain(getattr(self, name), redact)
            if value is not None:
                result[info.alias or name] = value
        return result


def to_plain(value: object, redact: bool = False) -> Any:
    """``value`` as JSON values; ``None`` for what must not be in a document.

    An empty model is ``None`` too, unless Traefik takes it empty.
    """
    if isinstance(value, TraefikModel):
        plain = value.plain(redact=redact)
        return plain if plain or value.may_be_empty else None
    if isinstance(value, SecretStr | Secret):
        return REDACTED if redact else to_plain(value.get_secret_value())
    if isinstance(value, Mapping):
        pairs = {key: to_plain(each, redact) for key, each in value.items()}
        return {key: each for key, each in pairs.items() if each is not None} or None
    if isinstance(value, tuple | list):
        return [to_plain(each, redact) for each in value] or None
    return value
