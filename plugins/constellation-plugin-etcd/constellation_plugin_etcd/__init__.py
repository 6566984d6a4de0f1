"""Keeps the consensus store and leases in an existing etcd cluster."""

from constellation_plugin_etcd.plugin import EtcdPlugin

__all__ = ["EtcdPlugin"]
