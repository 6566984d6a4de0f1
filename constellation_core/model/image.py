"""References to container images: ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``.

The grammar is that of the distribution project, which every registry and engine follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from constellation_core.model.strict import Words

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_REGISTRY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-f]{32,}")
_LONGEST = 255
"""Characters of registry and repository together."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image's name, taken apart.

    Attributes:
        registry: host, with a port where it has one; ``""`` for the engine's default.
        repository: path within the registry, such as ``library/nginx``.
        tag: ``""`` when none is given; an engine takes ``latest`` then.
        digest: such as ``sha256:...``; ``""`` when none is given.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Take ``text`` apart.

        Raises:
            ValueError: when it is no reference; the message says where and, if it can be told,
                what was meant.
        """
        if not text:
            raise ValueError("the image's name is empty; for example 'nginx:1.29'")
        if "://" in text:
            # The text stays out of this message and the next: it may hold a password.
            raise ValueError("an image reference has no scheme: leave out all up to '://'")
        name, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise ValueError(
                "this is not an image reference: after '@' comes a digest, such as sha256: and 64 "
                "hexadecimal digits"
            )
        head, slash, rest = name.partition("/")
        # A first part is a registry when it cannot be the first part of a path.
        if slash and ("." in head or ":" in head or head == "localhost"):
            registry, path = head, rest
        else:
            registry, path = "", name
        if registry and not _REGISTRY.fullmatch(registry):
            raise ValueError(
                f"{text!r} is not an image reference: {registry!r} is no registry (HOST[:PORT])"
            )
        repository, colon, tag = path.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise ValueError(
                f"{text!r} is not an image reference: a tag is 1 to 128 letters, digits, '_', '.' "
                "and '-', and begins with no '.' or '-'"
            )
        if not _REPOSITORY.fullmatch(repository):
            near = repository.lower()
            meant = repr(text.replace(repository, near))
            hint = f"; try {meant}" if _REPOSITORY.fullmatch(near) else ""
            raise ValueError(
                f"{text!r} is not an image reference: {repository!r} is no repository (lower-case "
                f"letters, digits, single '.', '_' and '-' between them, parts joined by '/'){hint}"
            )
        if len(registry) + len(repository) > _LONGEST:
            raise ValueError(f"an image's name has at most {_LONGEST} characters before its tag")
        return cls(registry, repository, tag, digest)

    def __str__(self) -> str:
        registry = f"{self.registry}/" if self.registry else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{registry}{self.repository}{tag}{digest}"


def _check_image(value: str) -> str:
    ImageReference.parse(value)
    return value


ImageName = Annotated[str, AfterValidator(_check_image), Words("image reference")]
