"""Where instances may run, and where they had better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, fields
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.names import Label, NodeName
from constellation_core.model.strict import STRICT, Words, matching

_WORD = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"
_TAG_PREFIX = "tag:"

Tag = Annotated[
    str,
    matching(
        rf"{_WORD}(=[A-Za-z0-9._/-]{{0,63}})?",
        "a node's tag is WORD or KEY=VALUE, of letters, digits, '.', '_', '/' and '-'",
    ),
    Words("text `WORD` or `KEY=VALUE`"),
]
Region = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
        "a region is 1 to 63 letters, digits, '.', '_' and '-', as in [agent] region",
    ),
    Words("region, as in `[agent] region`"),
]


def _check_spread(value: str) -> str:
    key = value.removeprefix(_TAG_PREFIX)
    if value in ("node", "region") or (value != key and key and "=" not in key):
        return value
    raise ValueError(
        "instances are spread over 'node', 'region' or the values of a tag, such as 'tag:rack'"
    )


Spread = Annotated[str, AfterValidator(_check_spread), Words('`"node"`, `"region"` or `"tag:KEY"`')]


@dataclass(frozen=True, config=STRICT)
class Preference:
    """Which nodes are better than others, where there is a choice.

    A node that meets all that is said gets ``weight``.

    Attributes:
        weight: how much it counts among the preferences; negative to avoid such nodes.
        nodes: one of these.
        regions: in one of these.
        tags: with all of these.
        without_tags: with none of these.
        apart_from: running no instance of these services.
    """

    _: KW_ONLY
    weight: Annotated[int, Field(ge=-100, le=100)] = 50
    nodes: tuple[NodeName, ...] = ()
    regions: tuple[Region, ...] = ()
    tags: tuple[Tag, ...] = ()
    without_tags: tuple[Tag, ...] = ()
    apart_from: tuple[Label, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.weight == 0:
            raise ValueError("a weight of 0 prefers nothing; leave the preference out")
        wishes = [field.name for field in fields(self) if field.name != "weight"]
        if not any(getattr(self, name) for name in wishes):
            raise ValueError(f"a preference names at least one of {', '.join(wishes)}")
        for problem in _contradictions(self.tags, self.without_tags):
            raise ValueError(problem)
        return self


@dataclass(frozen=True, config=STRICT)
class Placement:
    """Where instances may run. All that is said must be met; what is empty says nothing.

    Attributes:
        nodes: only on one of these.
        regions: only in one of these.
        tags: only where a node has all of these.
        without_tags: only where it has none of these.
        apart_from: never on a node that runs an instance of these services.
        max_per_node: how many instances one node may run at most.
        spread: over what instances are spread as evenly as can be, the most important first.
        prefer: which nodes are better among those that are left.
    """

    _: KW_ONLY
    nodes: tuple[NodeName, ...] = ()
    regions: tuple[Region, ...] = ()
    tags: tuple[Tag, ...] = ()
    without_tags: tuple[Tag, ...] = ()
    apart_from: tuple[Label, ...] = ()
    max_per_node: Annotated[int, Field(ge=1, le=1000)] | None = None
    spread: Annotated[tuple[Spread, ...], Field(max_length=8)] = ("node",)
    prefer: Annotated[tuple[Preference, ...], Field(max_length=32)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in _contradictions(self.tags, self.without_tags):
            raise ValueError(problem)
        for each in self.spread:
            if self.spread.count(each) > 1:
                raise ValueError(f"spread: {each!r} stands there twice")
        return self


def _contradictions(tags: tuple[str, ...], without: tuple[str, ...]) -> Iterator[str]:
    for tag in tags:
        if tag in without:
            yield f"no node has the tag {tag!r} and has it not; take it out of one of the two"
