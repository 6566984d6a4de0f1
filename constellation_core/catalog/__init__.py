"""The catalog: which instance is where and how it is, replicated to every node over gossip."""

from constellation_core.catalog.catalog import Catalog
from constellation_core.catalog.config import CatalogConfig
from constellation_core.catalog.rows import RowError
from constellation_core.catalog.standing import node_of, with_epoch
from constellation_core.catalog.stats import CatalogStats
from constellation_core.catalog.view import Change, InstanceChanged, ServiceChanged

__all__ = [
    "Catalog",
    "CatalogConfig",
    "CatalogStats",
    "Change",
    "InstanceChanged",
    "RowError",
    "ServiceChanged",
    "node_of",
    "with_epoch",
]
