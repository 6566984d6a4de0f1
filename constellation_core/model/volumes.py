"""What is mounted into an instance: named volumes, configuration, memory."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from constellation_core.model.resources import Size
from constellation_core.model.strict import STRICT, Argument, Words, matching

SECRETS_FOLDER = "/run/secrets"
"""Where an instance finds its secrets."""


def check_mount_path(value: str) -> str:
    """Return ``value`` when something can be mounted there.

    Raises:
        ValueError: with the rule and, where it can be told, what was meant.
    """
    if not value.startswith("/"):
        raise ValueError(f"{value!r} is no place to mount at: a path in the instance begins with /")
    plain = posixpath.normpath(value)
    if plain == "/" or plain == "//":
        raise ValueError("nothing can be mounted over /; name a folder or file below it")
    if plain != value:
        raise ValueError(f"{value!r} is not in its plain form; write {plain!r}")
    if plain == SECRETS_FOLDER or plain.startswith(SECRETS_FOLDER + "/"):
        raise ValueError(f"{SECRETS_FOLDER} holds the secrets; list them in secrets=")
    return value


def check_source(value: str) -> str:
    """Return ``value`` when it is a path below ``[agent] config_path``.

    Raises:
        ValueError: with the rule and what to do instead.
    """
    if value.startswith(("/", "~")):
        raise ValueError(
            f"{value!r} is not allowed: a bind is a path below [agent] config_path, written from "
            "there, such as 'web/nginx.conf'; data belongs into a Volume, a secret into secrets="
        )
    if not value or ".." in value.split("/") or posixpath.normpath(value) == ".":
        raise ValueError(f"{value!r} is not allowed: name a file or folder below config_path")
    plain = posixpath.normpath(value)
    if plain != value:
        raise ValueError(f"{value!r} is not in its plain form; write {plain!r}")
    return value


MountPath = Annotated[Argument, AfterValidator(check_mount_path), Words("absolute path")]
Source = Annotated[
    Argument, AfterValidator(check_source), Words("path relative to `[agent] config_path`")
]
VolumeName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}",
        "a volume's name is 1 to 128 letters, digits, '_', '.' and '-', and begins with a letter "
        "or digit; for a path below config_path use Bind(...)",
    ),
    Words("name"),
]


@dataclass(frozen=True, config=STRICT)
class Volume:
    """Data that outlives the instance, on the node where it ran.

    A volume does not move to another node with its service: bind a service that keeps data to
    its node, with ``placement=Placement(nodes=...)``.

    Attributes:
        name: the same name is the same volume, also from another service of the node.
        path: where the instance finds it.
        read_only: whether the instance may only read it.
    """

    name: VolumeName
    path: MountPath
    _: KW_ONLY
    read_only: bool = False
    kind: Literal["volume"] = "volume"


@dataclass(frozen=True, config=STRICT)
class Bind:
    """A file or folder below ``[agent] config_path`` of the node.

    Attributes:
        source: written from ``config_path`` on, such as ``web/nginx.conf``.
        path: where the instance finds it.
        read_only: whether the instance may only read it.
    """

    source: Source
    path: MountPath
    _: KW_ONLY
    read_only: bool = True
    kind: Literal["bind"] = "bind"


@dataclass(frozen=True, config=STRICT)
class Tmpfs:
    """A folder in memory, empty at every start.

    Attributes:
        path: where the instance finds it.
        size: how much it takes at most; half of the node's memory when not given.
    """

    path: MountPath
    _: KW_ONLY
    size: Size | None = None
    kind: Literal["tmpfs"] = "tmpfs"

    @property
    def size_bytes(self) -> int | None:
        """``size`` in bytes."""
        return cast("int | None", self.size)


AnyMount = Annotated[Volume | Bind | Tmpfs, Field(discriminator="kind")]


def mount_problems(mounts: Sequence[AnyMount]) -> Iterator[str]:
    """Why these cannot be mounted together."""
    paths = [mount.path for mount in mounts]
    for path in dict.fromkeys(paths):
        if paths.count(path) > 1:
            yield f"volumes: two are mounted at {path!r}"
