"""What is to be done before an instance starts, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.image import ImageName
from constellation_core.model.names import Label
from constellation_core.model.security import User
from constellation_core.model.strict import STRICT, Argument, Variable, Words


@dataclass(frozen=True, config=STRICT)
class InitJob:
    """A program that must end with 0 before the service starts.

    It has the environment, volumes, secrets and networks of the service.

    Attributes:
        name: unique in the service.
        command: program and arguments; no shell.
        run: ``instance`` runs it before every start of a new instance, where that one will run;
            ``revision`` once in the cluster for each new definition, before its first instance:
            for example to migrate a database.
        image: by default the service's.
        env: added to the service's.
        user: by default the service's.
        timeout: seconds after which it is killed and counts as failed.
        attempts: how often it is tried before the instance, or the update, fails.
    """

    name: Label
    _: KW_ONLY
    command: Annotated[tuple[Argument, ...], Field(min_length=1)]
    run: Literal["instance", "revision"] = "instance"
    image: ImageName | None = None
    env: dict[Variable, Argument] = field(default_factory=dict, repr=False)
    user: User | None = None
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    attempts: Annotated[int, Field(ge=1, le=100)] = 1

    @model_validator(mode="after")
    def _has_a_program(self) -> Self:
        if not self.command[0]:
            raise ValueError(f"init job {self.name!r}: command is empty")
        return self


@dataclass(frozen=True, config=STRICT)
class Dependency:
    """Another service that must be there before the first instance of this one starts.

    It is waited for at starts only: a dependency that fails later stops nobody.

    Attributes:
        service: its name.
        until: ``healthy`` waits until one of its instances is; ``started`` until one runs.
    """

    service: Label
    _: KW_ONLY
    until: Literal["healthy", "started"] = "healthy"


def _as_dependency(value: object) -> object:
    return {"service": value} if isinstance(value, str) else value


# Written as a name or as a value, always kept as a value.
if TYPE_CHECKING:
    AnyDependency = Dependency | str
else:
    AnyDependency = Annotated[
        Dependency,
        BeforeValidator(_as_dependency),
        Words("name of a service, or [`Dependency`](#dependency)"),
    ]


def dependency_problems(service: str, dependencies: Sequence[Dependency]) -> Iterator[str]:
    """Why ``service`` cannot wait for these."""
    names = [dependency.service for dependency in dependencies]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"depends_on: {name!r} stands there twice"
        if name == service:
            yield "depends_on: it waits for itself"


def job_problems(jobs: Sequence[InitJob], *, has_image: bool) -> Iterator[str]:
    """Why a service cannot have these init jobs."""
    names = [job.name for job in jobs]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"init: two jobs are named {name!r}"
    for job in jobs:
        if job.image is not None and not has_image:
            yield f"init: job {job.name!r} has an image, but its service is a process"
