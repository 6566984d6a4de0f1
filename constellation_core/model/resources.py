"""What an instance may use of its node, and what is kept free for it."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Self, cast

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.strict import STRICT, Words

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST = 1024**5
_LEAST_MEMORY = 6 * 1024**2
"""Below this, engines refuse a limit: a container could not even be started."""


def parse_size(value: object) -> int:
    """Bytes: a whole number, or text such as ``"512M"``, ``"1.5GiB"`` or ``"64kb"``.

    ``K``, ``M``, ``G`` and ``T`` are powers of 1024, with ``B`` or ``iB`` after them or without,
    as container engines read them.

    Raises:
        ValueError: when it is no size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = int(Fraction(match[1]) * 1024 ** _POWER[match[2].lower()])
    else:
        raise ValueError('expected a size in bytes, or with a unit, such as "512M" or "1.5G"')
    if not 0 < size <= _LARGEST:
        raise ValueError("a size is more than 0 and at most 1024T")
    return size


def _parse_memory(value: object) -> int:
    size = parse_size(value)
    if size < _LEAST_MEMORY:
        raise ValueError(f'{size} bytes are less than the least, "6M"; is the unit missing?')
    return size


def size_in_words(size: int) -> str:
    """``536870912`` as ``512M``; what no unit divides stays in bytes."""
    for unit, power in reversed(_POWER.items()):
        if power and size % 1024**power == 0:
            return f"{size // 1024**power}{unit.upper()}"
    return f"{size} bytes"


# Written as a number or as text, always kept as a number: readers use the properties below.
if TYPE_CHECKING:
    Size = int | str
    Memory = int | str
else:
    Size = Annotated[int, BeforeValidator(parse_size), Words('bytes, or text such as `"512M"`')]
    Memory = Annotated[
        int, BeforeValidator(_parse_memory), Words('bytes, or text such as `"512M"`')
    ]

Cpus = Annotated[float, Field(gt=0, le=1024)]


@dataclass(frozen=True, config=STRICT)
class Resources:
    """What one instance may use, and what its node keeps for it.

    A reservation decides where an instance can be placed, a limit what it gets there. Sizes may
    be written with a unit: ``K``, ``M``, ``G`` and ``T`` are powers of 1024.

    Attributes:
        reserve_cpu: CPUs that a node must have to spare; 0.5 is half of one.
        reserve_memory: memory that a node must have to spare.
        limit_cpu: CPUs that it may use at most.
        limit_memory: memory that it may use at most; it is killed when it wants more.
        limit_pids: how many processes and threads it may have.
    """

    _: KW_ONLY
    reserve_cpu: Cpus | None = None
    reserve_memory: Memory | None = None
    limit_cpu: Cpus | None = None
    limit_memory: Memory | None = None
    limit_pids: Annotated[int, Field(ge=1, le=4_194_304)] | None = None

    @property
    def reserved_bytes(self) -> int:
        """``reserve_memory``, or 0 when none is reserved."""
        return cast("int", self.reserve_memory or 0)

    @property
    def memory_limit_bytes(self) -> int | None:
        """``limit_memory``."""
        return cast("int | None", self.limit_memory)

    @model_validator(mode="after")
    def _reserves_no_more_than_it_may_use(self) -> Self:
        if None not in (self.reserve_cpu, self.limit_cpu) and self.reserve_cpu > self.limit_cpu:  # type: ignore[operator]
            raise ValueError(
                f"reserve_cpu ({self.reserve_cpu:g}) is more than limit_cpu ({self.limit_cpu:g})"
            )
        limit = self.memory_limit_bytes
        if limit is not None and self.reserved_bytes > limit:
            raise ValueError(
                f"reserve_memory ({size_in_words(self.reserved_bytes)}) is more than "
                f"limit_memory ({size_in_words(limit)})"
            )
        return self
