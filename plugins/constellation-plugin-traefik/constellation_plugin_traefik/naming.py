"""Names of Traefik's objects: stable, of ``[a-z0-9-]`` only, and never the same twice.

A name is the Constellation service's name, ``-``, and 8 hexadecimal digits: a checksum of what
makes the object itself (a router: what it answers to; a service: how it balances). The digits
have a fixed length, so the service's name can always be read back: two services never share a
name, whatever hyphens theirs have. Within one service, equal digits for different objects (one
in four thousand millions) are told apart by a checksum of the text with a number before it.
"""

from __future__ import annotations

from collections.abc import Container
from zlib import crc32

DIGITS = 8


def digits(identity: str) -> str:
    """The digits that stand for ``identity``; the same on every node and for ever."""
    return "%08x" % crc32(identity.encode())  # noqa: UP031 - the inner loop: twice as fast


def object_name(service: str, identity: str, taken: Container[str]) -> str:
    """The name of the object ``identity`` of a service.

    Args:
        service: a Constellation service's name.
        identity: what makes the object itself; equal text gives an equal name.
        taken: names that other objects of the same service and kind have.
    """
    name = f"{service}-{digits(identity)}"
    again = 1
    while name in taken:
        name = f"{service}-{digits(f'{again} {identity}')}"
        again += 1
    return name


def belongs_to(name: str, service: str) -> bool:
    """Whether ``name`` was made by :func:`object_name` for ``service``."""
    return len(name) == len(service) + 1 + DIGITS and name.startswith(f"{service}-")
