"""Gives Traefik v3 its routes from the live catalog."""

from constellation_plugin_traefik.plugin import TraefikPlugin

__all__ = ["TraefikPlugin"]
