"""Directories of voters that do not run, as a broken machine leaves them behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from constellation_core.consensus.engine import Identity, create
from constellation_core.consensus.engine.commands import Change, apply_command, change_command
from constellation_core.consensus.engine.journal import Journal
from constellation_core.consensus.engine.storage import Paths
from constellation_core.consensus.interface import Voter
from constellation_core.consensus.state import ReplicatedState
from constellation_core.consensus.state.operations import (
    OpenSession,
    Operation,
    RequestId,
    encode,
)

CLUSTER = UUID(int=1)
VOTERS = (
    Voter(str(UUID(int=2)), "127.0.0.1:7001"),
    Voter(str(UUID(int=3)), "127.0.0.1:7002"),
    Voter(str(UUID(int=4)), "127.0.0.1:7003"),
)


def requests(*operations: Operation) -> list[bytes]:
    """What a client asks for in the group's first session, which it opens."""
    asked = [encode(OpenSession())]
    for number, operation in enumerate(operations, 1):
        asked.append(encode(operation, RequestId(1, number, number)))
    return asked


def write_voter(
    directory: Path,
    log: Sequence[bytes | Change],
    *,
    committed: int,
    voters: Sequence[Voter] = VOTERS,
    term: int = 1,
) -> None:
    """Make the engine's directory of a group's first voter.

    Args:
        directory: made if it is missing.
        log: operations and changes of the voters; their indexes begin with 3.
        committed: the index up to which the voter knows of commits.
        voters: who formed the group.
        term: of all of the log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    identity = Identity(CLUSTER, UUID(voters[0].id))
    create(directory, identity, voters, ReplicatedState().snapshot())
    journal = Journal(Paths(directory).journal, identity)
    for index, each in enumerate(log, 3):
        command = change_command(each) if isinstance(each, Change) else apply_command(each)
        journal.add(command, index, term)
        journal.setRaftCommitIndex(min(index, committed))
        journal.sync()
    journal.close()
