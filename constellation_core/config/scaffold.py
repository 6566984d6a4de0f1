"""What ``constellation init`` does: a commented agent.toml and the cluster key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constellation_core.config.files import create_file
from constellation_core.config.loading import load
from constellation_core.config.lookup import FILE_NAME, SYSTEM_FILE
from constellation_core.config.problems import ConfigError
from constellation_core.config.secrets import OWNER_ONLY, ClusterKey
from constellation_core.config.template import render

KEY_NAME = "cluster.key"
SERVICES_NAME = "services.py"

_CONFIG_MODE = 0o644
"""agent.toml holds no secrets (they have files of their own), and every command reads it."""

_SERVICES = '''\
"""The services of this node."""

from constellation_core import HTTPCheck, Port, Route, Service

hello = Service(
    "hello",
    # No shell: program and arguments. ${PORT} is the number of the first port. It listens for
    # this host only; without "--bind" other nodes reach it too.
    command=("python3", "-m", "http.server", "${PORT}", "--bind", "127.0.0.1"),
    ports=(Port("http"),),
    routes=(Route(host="hello.localhost"),),
    check=HTTPCheck("/", interval=5),
)
'''


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was written.

    Attributes:
        config: the new agent.toml.
        key_file: the cluster key in use.
        key_created: whether the key is new; a copy of another node's is not.
        fingerprint: of the key; the same on every node of the cluster.
        services: the sample services file, where one was asked for.
        next_steps: what remains to be done, as sentences.
    """

    config: Path
    key_file: Path
    key_created: bool
    fingerprint: str
    services: Path | None
    next_steps: tuple[str, ...]


def initialise(
    path: Path = Path(FILE_NAME),
    *,
    name: str | None = None,
    join: Sequence[str] = (),
    bind: str | None = None,
    plugins: Sequence[str] = (),
    key_file: Path | None = None,
    services: bool = False,
    voters: int | None = None,
) -> Initialised:
    """Write ``path`` and, beside it, ``cluster.key``; nothing that exists is overwritten.

    Outside of ``/etc/constellation`` the node's state goes into ``data`` beside the file, so
    that it needs no rights elsewhere.

    Args:
        path: the file to write (``*.toml``), or the folder for it; made when there is none.
        name: ``[agent] name``; by default the host's name at each start.
        join: ``[gossip] join``.
        bind: ``[gossip] bind``; by default all addresses.
        plugins: ``[plugins] enabled``.
        key_file: the key of the cluster to join, copied from one of its nodes; it is put
            beside ``path``. Without it a new key is made.
        services: also write a sample ``services.py``, and name it in ``path``.
        voters: ``[consensus] voters``; by default 3.

    Raises:
        ConfigError: when a file exists, cannot be written, or an argument is no valid setting.
        SecretError: when ``key_file`` cannot be used.
    """
    if path.is_dir() or (not path.exists() and path.suffix != ".toml"):
        path = path / FILE_NAME
    folder = path.parent
    key_path, services_path = folder / KEY_NAME, folder / SERVICES_NAME
    reuse = key_file is not None and _same(key_file, key_path)
    _refuse_existing(path, "it stays as it is; remove it first, or edit it")
    if not reuse:
        _refuse_existing(
            key_path, f"to use this key: --key-file {key_path}; to make a new one, move it away"
        )
    if services:
        _refuse_existing(services_path, "it stays as it is; move it away, or do without a sample")
    key = ClusterKey.generate() if key_file is None else ClusterKey.read(key_file)

    active: dict[tuple[str, str], Any] = {("plugins", "enabled"): list(plugins)}
    if name is not None:
        active["agent", "name"] = name
    if path.absolute().parent != SYSTEM_FILE.parent:
        active["agent", "data_dir"] = "data"
    if services:
        active["agent", "services"] = SERVICES_NAME
    active["gossip", "bind"] = "0.0.0.0:7946" if bind is None else bind
    active["gossip", "join"] = list(join)
    if voters is not None:
        active["consensus", "voters"] = voters

    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not reuse:
            _create(key_path, key.to_file_content(), OWNER_ONLY, written)
        if services:
            _create(services_path, _SERVICES.encode(), _CONFIG_MODE, written)
        _create(path, render(active).encode(), _CONFIG_MODE, written)
        # What it says is checked by what will read it; the environment has no part in this.
        load(path, environ={})
    except BaseException as error:
        for each in written:
            each.unlink(missing_ok=True)
        if isinstance(error, ConfigError):
            # The lines are those of a file that is gone again.
            raise ConfigError(
                [replace(each, source="", line=None, column=None) for each in error.problems]
            ) from None
        if isinstance(error, OSError):
            raise ConfigError.of(
                f"cannot be written: {error.strerror or error}", error.filename or path
            ) from None
        raise
    return Initialised(
        config=path,
        key_file=key_path,
        key_created=key_file is None,
        fingerprint=key.fingerprint(),
        services=services_path if services else None,
        next_steps=tuple(_next_steps(path, key_path, key_file is None, bool(join), voters)),
    )


def _create(path: Path, data: bytes, mode: int, written: list[Path]) -> None:
    create_file(path, data, mode)
    written.append(path)


def _refuse_existing(path: Path, hint: str) -> None:
    if os.path.lexists(path):
        raise ConfigError.of(f"exists already; {hint}", path)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _next_steps(
    path: Path, key_path: Path, new_key: bool, joins: bool, voters: int | None
) -> list[str]:
    steps = []
    if new_key and joins:
        steps.append(
            f"{key_path} is a new key. A node that joins an existing cluster needs that cluster's "
            f"key: replace it by a copy of cluster.key from one of its nodes (mode 0600)."
        )
    elif new_key:
        steps.append(
            f"Other nodes need a copy of {key_path}: constellation init --key-file COPY "
            f"--join THIS_HOST:7946"
        )
    steps.append(_about_voters(voters))
    steps.append(f"Start the agent: constellation agent --config {path}")
    return steps


def _about_voters(voters: int | None) -> str:
    if voters == 1:
        return (
            "One agent keeps what must have one owner (leases, the store), so nothing is leased "
            "while its host is down. With three hosts: [consensus] voters = 3 on all of them."
        )
    return (
        "What must have one owner (leases, the store) needs three hosts: two protect nothing, "
        "since neither can be spared. With two, let a third machine, however small, be a witness: "
        "constellation init --witness. On a single host: --voters 1. (docs/operations.md)"
    )
