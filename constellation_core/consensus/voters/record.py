"""What an agent remembers about consensus, whether it votes or not.

The file is named ``node``. Besides it, the directory has ``voter``: the engine's files, or
``candidate``, the UUID that the voter will have, as long as there are none. So that the UUID
dies with the data, it lies where the data will: who clears that directory is somebody else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from constellation_core.consensus.files import replace_file, sync_directory
from constellation_core.consensus.interface import Corrupt
from constellation_core.consensus.voters.founding import Founder, Founding

_VERSION = 1
_MAX_ORDER = 1 << 53
"""Far above what drawing ever reaches."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered.

    Attributes:
        cluster: the UUID of the cluster that came to life; ``None`` while none is known. Who
            knows one never founds another.
        former: UUIDs that the cluster had before it was recovered or restored.
        promises: foundings that were promised; see :mod:`.founding`.
    """

    cluster: str | None = None
    former: tuple[str, ...] = ()
    promises: tuple[Founding, ...] = ()

    def belongs_to(self, cluster: str) -> Record:
        """The record of an agent that knows that its cluster has this UUID (now)."""
        if cluster == self.cluster:
            return self
        before = () if self.cluster is None else (self.cluster,)
        former = tuple(dict.fromkeys(each for each in (*self.former, *before) if each != cluster))
        return replace(self, cluster=cluster, former=former)


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are in an agent's directory for consensus."""

    directory: Path

    @property
    def node(self) -> Path:
        """The record's file."""
        return self.directory / "node"

    @property
    def voter(self) -> Path:
        """The engine's directory."""
        return self.directory / "voter"

    @property
    def removed(self) -> Path:
        """What the engine's directory was before the voter was removed; the latest only."""
        return self.directory / "voter.removed"

    @property
    def candidate(self) -> Path:
        """The UUID of the voter to be."""
        return self.voter / "candidate"

    def make(self) -> None:
        """Make the directories, if they are missing."""
        self.voter.mkdir(mode=0o700, parents=True, exist_ok=True)


def read_record(places: Places) -> Record:
    """The record; an empty one where there is none.

    Raises:
        Corrupt: it cannot be read. An agent that forgot its promises must not found anything.
    """
    try:
        document = json.loads(places.node.read_bytes())
        if document["version"] != _VERSION:
            raise Corrupt(f"{places.node} has version {document['version']}, not {_VERSION}")
        return Record(
            _uuid(document["cluster"]) if document["cluster"] is not None else None,
            tuple(map(_uuid, document["former"])),
            tuple(map(parse_founding, document["promises"])),
        )
    except FileNotFoundError:
        return Record()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{places.node} cannot be read") from error


def write_record(places: Places, record: Record) -> None:
    """Make it durable.

    Raises:
        OSError: it could not be written; the earlier one stands.
    """
    document = {
        "version": _VERSION,
        "cluster": record.cluster,
        "former": list(record.former),
        "promises": [founding_fields(each) for each in record.promises],
    }
    replace_file(places.node, json.dumps(document).encode())


def remember(directory: Path, cluster: str, former: Sequence[str] = ()) -> None:
    """Have an agent that does not run know its cluster, for instance after it was restored.

    Args:
        directory: the agent's for consensus.
        cluster: the cluster's UUID now.
        former: UUIDs that it had before; agents that know one of them follow.

    Raises:
        Corrupt: the record cannot be read.
        OSError: it cannot be written.
    """
    places = Places(directory)
    places.make()
    record = read_record(places)
    for each in (*former, cluster):
        record = record.belongs_to(each)
    write_record(places, record)


def candidate_id(places: Places, new_id: Callable[[], str]) -> str:
    """The UUID of the voter to be, made when there is none.

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        return _uuid(places.candidate.read_text())
    except (FileNotFoundError, ValueError):
        # A file that cannot be read stands for a candidate that nobody has to know.
        made = new_id()
        replace_file(places.candidate, made.encode())
        return made


def set_aside(places: Places) -> None:
    """Take a voter's files out of use, and keep them until it happens again.

    Raises:
        OSError: it could not be done. Nothing is half gone: the directory is renamed.
    """
    if places.removed.exists():
        shutil.rmtree(places.removed)
    places.voter.rename(places.removed)
    sync_directory(places.directory)
    places.make()


def founding_fields(founding: Founding) -> list[object]:
    """A founding as lists of texts and numbers, for a file or the network."""
    founders = [[each.name, each.id, each.address] for each in founding.founders]
    witnesses = [[each.name, each.id, each.address] for each in founding.witnesses]
    return [founding.order, founding.cluster, founders, witnesses]


def parse_founding(fields: object) -> Founding:
    """The founding that has these fields.

    Raises:
        ValueError: there is none.
    """
    match fields:
        case [int(order), cluster, [_, *_] as first, list(more)] if 0 < order <= _MAX_ORDER:
            founders, witnesses = tuple(map(_founder, first)), tuple(map(_founder, more))
            founding = Founding(order, _uuid(cluster), founders, witnesses)
            if _plausible(founding):
                return founding
    raise ValueError("not a founding")


def _plausible(founding: Founding) -> bool:
    each_once = len(founding.bound) == len(founding.founders) + len(founding.witnesses)
    sorted_ = all(
        tuple(sorted(group)) == group for group in (founding.founders, founding.witnesses)
    )
    return each_once and sorted_


def _founder(fields: object) -> Founder:
    match fields:
        case [str(name), str(id_), str(address)]:
            return Founder(name, _uuid(id_), address)
    raise ValueError("not a founder")


def _uuid(text: object) -> str:
    if not isinstance(text, str) or str(UUID(text)) != text:
        raise ValueError("not a UUID")
    return text
