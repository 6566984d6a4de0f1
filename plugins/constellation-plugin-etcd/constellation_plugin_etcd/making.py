"""From settings to a backend."""

from __future__ import annotations

from pathlib import Path

from constellation_core import PluginContext
from constellation_plugin_etcd.backend import EtcdBackend, tls_context
from constellation_plugin_etcd.config import EtcdConfig
from constellation_plugin_etcd.gateway import HttpGateway
from constellation_plugin_etcd.login import Login


def make_backend(context: PluginContext) -> EtcdBackend:
    """The backend that ``[plugins.etcd]`` asks for. It does not connect yet.

    Raises:
        SecretError: the password cannot be read.
        ValueError: a certificate or key cannot be used; the text says which files.
    """
    config: EtcdConfig = context.config
    login = None
    if config.user is not None and config.password_file is not None:
        login = Login(config.user, context.secrets.read(config.password_file))
    tls = None
    if any(endpoint.startswith("https:") for endpoint in config.endpoints):
        if config.key_file is not None:
            _require_private(config.key_file)
        files = [_text(each) for each in (config.ca_file, config.cert_file, config.key_file)]
        try:
            tls = tls_context(*files)
        except OSError as error:
            named = ", ".join(each for each in files if each)
            raise ValueError(f"TLS cannot be set up with {named or 'no file'}: {error}") from error
    gateway = HttpGateway(config.endpoints, login, tls)
    return EtcdBackend(gateway, node=context.node.name, prefix=config.prefix)


def _require_private(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise ValueError(f"{path} may be read by others; mend it with: chmod 600 {path}")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
