"""Entry points and what the distributions that bring them say of themselves, read from files.

Every start of the command line needs this for ``--help``. ``importlib.metadata`` would answer the
same questions, but importing it takes longer than all else that the command does; so the files
that the packaging standards define are read here. Plugins are loaded through stevedore
nevertheless: see :mod:`constellation_core.plugins.discovery`.

Sources: the core metadata specification, the entry points specification (packaging.python.org).
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PLUGINS = "constellation.plugins"
"""The group of the entry points of plugins."""
COMMANDS = "constellation.commands"
"""The group of the entry points of commands that need no plugin; see ``cli/standalone.py``."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An entry point, with what its distribution says of itself.

    Attributes:
        group: of the entry point.
        name: of the entry point.
        target: what it names, ``MODULE`` or ``MODULE:ATTRIBUTE``.
        distribution: name of the distribution that brings it.
        version: that distribution's version.
        summary: that distribution's one line of description.
        requires: its requirements, as its METADATA has them.
    """

    group: str
    name: str
    target: str
    distribution: str
    version: str
    summary: str
    requires: tuple[str, ...]


def find_offers(*groups: str, path: Sequence[str] | None = None) -> list[Offer]:
    """All entry points of some groups.

    Args:
        groups: of the entry points.
        path: folders to look in, as in ``sys.path``, which is the default. Of a distribution
            that several of them have, the first one counts, as for imports.
    """
    found: dict[str, list[Offer]] = {}
    for folder in _metadata_folders(sys.path if path is None else path):
        text = _text(folder / "entry_points.txt")
        # Most distributions have none of these groups, so most texts need not be taken apart.
        if not any(f"[{group}]" in text for group in groups):
            continue
        fields = _fields(_text(folder / "METADATA") or _text(folder / "PKG-INFO"))
        offers = [
            _offer(group, name, target, fields)
            for group in groups
            for name, target in _section(text, group).items()
        ]
        found.setdefault(_first(fields, "name").lower(), offers)
    return [offer for offers in found.values() for offer in offers]


def requirement_on(distribution: str, requires: Sequence[str]) -> str:
    """The versions of ``distribution`` that are required, such as ``>=1,<2``; ``""``: any."""
    for text in requires:
        name = re.match(r"[A-Za-z0-9._-]+", text)
        if name is not None and re.sub(r"[-_.]+", "-", name[0]).lower() == distribution:
            return text[name.end() :].partition(";")[0].strip(" ()")
    return ""


def _metadata_folders(path: Sequence[str]) -> Iterator[Path]:
    for folder in dict.fromkeys(path):
        try:
            with os.scandir(folder or ".") as entries:
                names = [each.name for each in entries if each.name.endswith("-info")]
        except OSError:
            continue
        for name in sorted(names):
            if name.endswith((".dist-info", ".egg-info")):
                yield Path(folder or ".", name)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _section(text: str, group: str) -> dict[str, str]:
    """The entries of one section of an entry_points.txt."""
    _, found, rest = text.partition(f"[{group}]")
    entries = {}
    for line in rest.splitlines() if found else ():
        line = line.strip()
        if line.startswith("["):
            break
        name, equals, target = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            # What may follow in brackets names extras, which nobody uses any more.
            entries[name.strip()] = target.partition("[")[0].strip()
    return entries


def _fields(metadata: str) -> Mapping[str, list[str]]:
    """The header fields of a METADATA file that stand on one line, by name in lower case."""
    fields: defaultdict[str, list[str]] = defaultdict(list)
    for line in metadata.splitlines():
        if not line:
            break
        name, colon, value = line.partition(":")
        if colon and not name[:1].isspace():
            fields[name.lower()].append(value.strip())
    return fields


def _offer(group: str, name: str, target: str, fields: Mapping[str, list[str]]) -> Offer:
    return Offer(
        group=group,
        name=name,
        target=target,
        distribution=_first(fields, "name"),
        version=_first(fields, "version"),
        summary=_first(fields, "summary"),
        requires=tuple(fields.get("requires-dist", ())),
    )


def _first(fields: Mapping[str, list[str]], name: str) -> str:
    return fields[name][0] if name in fields else ""
