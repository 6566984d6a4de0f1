"""What an agent has on its disk for consensus: read at the start, written before it is said."""

from __future__ import annotations

from collections.abc import Callable

from constellation_core.consensus.voters.founding import Founding
from constellation_core.consensus.voters.network import Engines
from constellation_core.consensus.voters.record import (
    Places,
    Record,
    candidate_id,
    read_record,
    set_aside,
    write_record,
)


class Memory:
    """The directory of one agent. Its methods are short, and write to the disk meanwhile.

    Args:
        places: where. Nobody else changes what is there.
        engines: tell a voter's identity, and make its files.
        new_id: makes a UUID.

    Raises:
        Corrupt: something cannot be read.
        OSError: something cannot be read or written.
    """

    def __init__(self, places: Places, engines: Engines, new_id: Callable[[], str]) -> None:
        self.places = places
        self._engines = engines
        self._new_id = new_id
        places.make()
        self._record = read_record(places)
        self._identity = engines.identity(places.voter)
        self._candidate = ""
        if self._identity is None:
            self._candidate = candidate_id(places, new_id)
        else:
            # A crash came right after the voter's files were made.
            places.candidate.unlink(missing_ok=True)
            if self._record.cluster is not None:
                # The data decide: they may have been given another UUID while nothing ran.
                self.remember(self._record.belongs_to(self._identity[0]))

    @property
    def record(self) -> Record:
        """What is remembered."""
        return self._record

    @property
    def identity(self) -> tuple[str, str] | None:
        """The cluster's and the voter's UUID, if there are a voter's files."""
        return self._identity

    @property
    def id(self) -> str:
        """The UUID of the voter that is or will be here."""
        return self._candidate if self._identity is None else self._identity[1]

    @property
    def founding(self) -> Founding | None:
        """The founding by which the voter here began, if it was one of the founders."""
        if self._identity is None or not self._record.promises:
            return None
        last = self._record.promises[-1]
        return last if last.cluster == self._identity[0] else None

    def remember(self, record: Record) -> None:
        """Change the record.

        Raises:
            OSError: it could not be written, and is as before.
        """
        if record != self._record:
            write_record(self.places, record)
            self._record = record

    def create(self, cluster: str, founding: Founding | None) -> None:
        """Make the voter's files: as a founder, or to be added.

        Raises:
            OSError: it could not be done.
            ConsensusError: it cannot be done.
        """
        founders = None if founding is None else founding.voters
        self._engines.create(self.places.voter, cluster, self._candidate, founders)
        self._identity = (cluster, self._candidate)
        self.places.candidate.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Take the voter's files out of use; a candidate with a new UUID is in their place.

        Raises:
            OSError: it could not be done.
        """
        set_aside(self.places)
        self._identity = None
        self._candidate = candidate_id(self.places, self._new_id)
