"""How an instance is, in the order from dead to well."""

from __future__ import annotations

from enum import IntEnum


class Health(IntEnum):
    """The health of one instance.

    The order is meaningful: ``min`` of the owner's word and of the owner's own
    membership state is the health that everybody else sees.
    """

    UNREACHABLE = 0
    """The node that owns the instance is dead or has left. Never written by an owner."""
    STOPPED = 1
    """Stopped on purpose, or exited and not to be restarted."""
    CRASH_LOOPING = 2
    """Restarted again and again without getting well; still retried, at long intervals."""
    UNHEALTHY = 3
    """Runs, but its check fails; or it just exited and will be restarted."""
    STARTING = 4
    """Runs, but no check has passed yet."""
    SUSPECT = 5
    """Healthy by its owner's last word, but the owner does not answer at the moment."""
    HEALTHY = 6
    """Runs, and its check (where it has one) passes."""

    @property
    def label(self) -> str:
        """The word for tables and JSON, such as ``crash-looping``."""
        return self.name.lower().replace("_", "-")

    @property
    def serves(self) -> bool:
        """Whether traffic may be sent to an instance in this state."""
        return self >= Health.SUSPECT

    @classmethod
    def from_label(cls, label: str) -> Health:
        """The inverse of :attr:`label`.

        Raises:
            ValueError: when no such state exists.
        """
        try:
            return cls[label.upper().replace("-", "_")]
        except KeyError:
            known = ", ".join(each.label for each in cls)
            raise ValueError(f"unknown health {label!r}; one of: {known}") from None
