"""How a new definition replaces what runs."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.strict import STRICT

Order = Literal["start-first", "stop-first"]


@dataclass(frozen=True, config=STRICT)
class UpdatePolicy:
    """How instances are replaced when the definition changes.

    Attributes:
        order: ``start-first`` starts the new instance, and stops the old one when the new one is
            healthy; ``stop-first`` the other way round. By default ``start-first`` wherever the
            two can run beside each other: not for a singleton, not with a fixed port of the node,
            and not with a volume that it writes to.
        parallelism: how many instances are replaced at a time.
        health_deadline: seconds in which a new instance must become healthy.
        healthy_for: seconds that it must stay so before the next ones follow.
        on_failure: when one does not become healthy: ``rollback`` restores the last good
            definition everywhere; ``pause`` leaves everything as it is, for somebody to look at.
    """

    _: KW_ONLY
    order: Order | None = None
    parallelism: Annotated[int, Field(ge=1, le=1000)] = 1
    health_deadline: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    healthy_for: Annotated[float, Field(ge=0, le=3600)] = 5.0
    on_failure: Literal["rollback", "pause"] = "rollback"

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.healthy_for >= self.health_deadline:
            raise ValueError(
                f"healthy_for ({self.healthy_for:g} s) must be less than health_deadline "
                f"({self.health_deadline:g} s)"
            )
        return self
