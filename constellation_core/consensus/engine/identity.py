"""Who a voter is: two UUIDs in its data directory, and a lock on it.

The voter's UUID is made with the directory and with nothing else. A disk that comes back empty
is therefore another voter, which nobody has added yet: it cannot lend its old name's vote to
undo what that name acknowledged. The file is written last, so that a directory without it was
never used, and one with it but without a journal has lost something.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from constellation_core.consensus.files import FaultPoint, no_faults, replace_file
from constellation_core.consensus.interface import Corrupt, Unavailable

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """The group a voter belongs to, and its own id.

    Attributes:
        cluster: the group's UUID.
        voter: the voter's UUID.
        generation: which of the files in the directory are this voter's: 0 for those that the
            directory was made with, and one more with each recovery (see :mod:`.recovery`).
    """

    cluster: UUID
    voter: UUID
    generation: int = 0

    @property
    def id(self) -> str:
        """The voter's id as it stands in the log."""
        return str(self.voter)


def write_identity(path: Path, identity: Identity, faults: FaultPoint = no_faults) -> None:
    """Write the file durably."""
    document: dict[str, object] = {
        "version": _VERSION,
        "cluster": str(identity.cluster),
        "voter": identity.id,
    }
    if identity.generation:
        document["generation"] = identity.generation
    replace_file(path, json.dumps(document).encode(), faults, "identity")


def read_identity(path: Path) -> Identity | None:
    """Who the directory belongs to, or ``None`` when it was never set up.

    Raises:
        Corrupt: the file is there but cannot be read.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != _VERSION:
            raise Corrupt(f"{path} has version {document['version']}; this engine reads {_VERSION}")
        generation = document.get("generation", 0)
        if type(generation) is not int or generation < 0:
            raise Corrupt(f"{path} cannot be read")
        return Identity(UUID(document["cluster"]), UUID(document["voter"]), generation)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{path} cannot be read") from error


class DirectoryLock:
    """One process uses the directory at a time: two with one identity would vote twice.

    Raises:
        Unavailable: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise Unavailable(f"another process uses {path.parent}") from error

    def release(self) -> None:
        """Let others use the directory. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
