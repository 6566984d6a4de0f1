"""The services that an agent runs itself: from the operator's file to running instances."""

from constellation_core.workloads.loader import ServicesError, load_services
from constellation_core.workloads.local import LocalWorkloads, Publisher

__all__ = ["LocalWorkloads", "Publisher", "ServicesError", "load_services"]
