"""What the bytes of a journal say: the log, term and vote, as far as they can be read.

Pure, and never refuses: what cannot be trusted is a sentence in the result, beside what stands
before it. A voter that starts refuses any such sentence; who looks at what a broken machine left
behind takes what there is.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from constellation_core.consensus.engine import records
from constellation_core.consensus.engine.commands import MEMBERSHIP, Entry, check_command
from constellation_core.consensus.engine.identity import Identity

_HEADER = struct.Struct("<8s16s16sI")
_MAGIC = b"CNSTJNL1"


@dataclass(slots=True)
class Replay:
    """A journal's content.

    Attributes:
        entries: the log.
        changes: the indexes of the changes of the voters.
        term: the term that was written last.
        voted_for: who got the vote in it.
        commit: the highest index that a record says was committed.
        end: the offset behind the last record that counts.
        problem: what is wrong with the journal, as the end of a sentence; else ``None``.
    """

    entries: list[Entry] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    term: int = 0
    voted_for: str | None = None
    commit: int = 0
    end: int = 0
    problem: str | None = None


def write_header(identity: Identity) -> bytes:
    """The first bytes of a journal of this voter."""
    head = _HEADER.pack(_MAGIC, identity.cluster.bytes, identity.voter.bytes, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def replay(data: bytes, identity: Identity) -> Replay:
    """Read the journal of this voter."""
    found = Replay(problem=_header_problem(data, identity))
    if found.problem is not None:
        return found
    found.end = _HEADER.size
    while (record := records.parse(data, found.end)) is not None:
        try:
            _take(found, record)
        except (ValueError, IndexError, struct.error) as error:
            found.problem = f"makes no sense before byte {record.end}: {error}"
            return found
        found.end = record.end
    found.problem = _end_problem(found, data)
    return found


def _take(found: Replay, record: records.Record) -> None:
    match record.kind:
        case records.ENTRY:
            (index, term), command = records.parse_numbers(record.payload, 2)
            check_command(command)
            if found.entries:
                _, last, last_term = found.entries[-1]
                if index != last + 1 or term < last_term:
                    raise ValueError(f"entry {index} follows {last}")
            if command[0] == MEMBERSHIP:
                found.changes.append(index)
            found.entries.append((command, index, term))
        case records.TRUNCATE:
            (index,), _ = records.parse_numbers(record.payload, 1)
            first = found.entries[0][1]
            if index <= first:
                raise ValueError("the whole log was dropped")
            del found.entries[index - first :]
            found.changes[:] = [each for each in found.changes if each < index]
        case records.TERM:
            (term,), voted_for = records.parse_numbers(record.payload, 1)
            found.term, found.voted_for = term, voted_for.decode() or None
        case records.MARK:
            committed = found.entries[-1][1] - records.parse_mark(record.payload)[1]
            found.commit = max(found.commit, committed)
        case kind:
            raise ValueError(f"a record of kind {kind}")


def _end_problem(found: Replay, data: bytes) -> str | None:
    if found.end < len(data) and records.durable_beyond(data, found.end):
        return f"is damaged at byte {found.end}, where it was durable"
    if not found.entries:
        return "has no entries"
    last = found.entries[-1][1]
    if found.commit > last:
        return f"ends at index {last}, but {found.commit} was committed"
    return None


def _header_problem(data: bytes, identity: Identity) -> str | None:
    head = data[: _HEADER.size]
    if len(head) < _HEADER.size or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
        return "has no valid header"
    magic, cluster, voter, _ = _HEADER.unpack(head)
    if magic != _MAGIC:
        return "is not a journal of this version"
    if (cluster, voter) != (identity.cluster.bytes, identity.voter.bytes):
        return "is the journal of another voter"
    return None
