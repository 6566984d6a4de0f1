"""The services that an agent runs itself: from the operator's file to running instances."""

from constellation_core.workloads.loader import ServicesError
from constellation_core.workloads.local import LocalWorkloads, Publisher
from constellation_core.workloads.reading import read_services

__all__ = ["LocalWorkloads", "Publisher", "ServicesError", "read_services"]
