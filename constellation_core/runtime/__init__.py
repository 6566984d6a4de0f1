"""What a runtime driver is: the thing that starts and stops instances.

The core knows no process and no container. A driver plugin returns a :class:`RuntimeDriver`
from its ``runtime_driver`` hook; the core hands it instances and hears of their fate through
:class:`DriverEvents`.
"""

from __future__ import annotations

from constellation_core.runtime.driver import (
    DriverEvents,
    InstanceSpec,
    LogLine,
    Phase,
    RuntimeDriver,
    RuntimeStatus,
)

__all__ = ["DriverEvents", "InstanceSpec", "LogLine", "Phase", "RuntimeDriver", "RuntimeStatus"]
