"""Which changes have to be told first."""

from __future__ import annotations

from enum import IntEnum

from constellation_core.catalog.rows import Value
from constellation_core.model.instance import Instance


class Urgency(IntEnum):
    """How soon a change has to be known; smaller comes first."""

    FAILING = 0
    """What served must get no more traffic where it was."""
    NEW = 1
    """An instance or a definition that was not there."""
    OK = 2
    """An instance serves that did not."""
    METADATA = 3
    """Anything else."""


def urgency_of(old: Value | None, new: Value | None) -> Urgency:
    """How urgent the change from ``old`` to ``new`` is; ``None`` stands for no row."""
    served = isinstance(old, Instance) and old.health.serves
    serves = isinstance(new, Instance) and new.health.serves
    if served and not serves:
        return Urgency.FAILING
    if isinstance(old, Instance) and isinstance(new, Instance) and served and moved(old, new):
        return Urgency.FAILING
    if old is None and new is not None:
        return Urgency.NEW
    if serves and not served:
        return Urgency.OK
    return Urgency.METADATA


def moved(old: Instance, new: Instance) -> bool:
    """Whether an instance is reached elsewhere than before."""
    return (old.address, old.ports) != (new.address, new.ports)
