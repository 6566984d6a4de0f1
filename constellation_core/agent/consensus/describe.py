"""The built-in consensus as a document, for the API and for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from constellation_core.consensus.interface import EngineStatus, Voter
from constellation_core.consensus.voters.network import Part

if TYPE_CHECKING:
    from constellation_core.agent.consensus.raft import RaftConsensus


def describe(raft: RaftConsensus, me: str) -> dict[str, Any]:
    """See :meth:`~constellation_core.consensus.backend.ConsensusBackend.describe`.

    Args:
        raft: this agent's.
        me: this agent's name.
    """
    standing, running = raft.standing, raft.voter
    status = running.status if running is not None else None
    cluster = standing.cluster if standing is not None else None
    leader = raft.fleet.leader()
    trouble = raft.trouble()
    voters = _voters(raft, me, status, cluster, leader)
    document = {
        "backend": raft.name,
        "available": leader is not None and trouble is None,
        "leader": _name(raft, me, status, leader) if leader is not None else None,
        "problems": list(_problems(raft, cluster, leader, trouble, voters)),
        "cluster": cluster,
        "part": standing.part.name.lower() if standing is not None else "none",
        "voter": status.me if status is not None else None,
        "vote": raft.settings.vote,
        "address": standing.address if standing is not None else None,
        "doing": standing.doing if standing is not None else "beginning",
        "wanted": raft.settings.voters,
        "voters": voters,
    }
    return {**document, **_log(status)} if status is not None else document


def _voters(
    raft: RaftConsensus,
    me: str,
    status: EngineStatus | None,
    cluster: str | None,
    leader: str | None,
) -> list[dict[str, Any]]:
    """Who votes: as the log says, on a voter; as the voters say of themselves, elsewhere."""
    told = {each.id: (member, each) for member, each in raft.fleet.told()}
    if status is not None:
        voters = list(status.voters)
    else:
        voters = [
            Voter(each.id, each.address)
            for _, each in told.values()
            if each.part is Part.VOTER and each.cluster == cluster is not None
        ]
    match = dict(status.match) if status is not None else {}
    silent = dict(status.heard) if status is not None else {}
    rows = []
    for voter in voters:
        mine = status is not None and voter.id == status.me
        member = told[voter.id][0] if voter.id in told else None
        rows.append(
            {
                "id": voter.id,
                "address": voter.address,
                "node": me if mine else (member.name if member is not None else None),
                "state": "alive" if mine else (member.state.value if member else "unknown"),
                "leader": voter.id == leader,
                "match": match.get(voter.id),
                "silent": round(silent[voter.id], 1) if voter.id in silent else None,
            }
        )
    return sorted(rows, key=lambda row: (row["node"] is None, row["node"], row["id"]))


def _name(raft: RaftConsensus, me: str, status: EngineStatus | None, voter: str) -> str:
    if status is not None and voter == status.me:
        return me
    return raft.fleet.node_of(voter) or f"voter {voter[:8]}"


def _problems(
    raft: RaftConsensus,
    cluster: str | None,
    leader: str | None,
    trouble: str | None,
    voters: list[dict[str, Any]],
) -> Iterator[str]:
    standing = raft.standing
    if standing is None:
        yield "consensus begins just now"
        return
    yield from standing.problems
    elsewhere = raft.fleet.elsewhere()
    if elsewhere:
        words = ", ".join(f"{name} ({backend})" for name, backend in sorted(elsewhere.items()))
        yield (
            "other agents keep consensus by something else than the built-in voters: "
            f"{words}; use the same on all nodes"
        )
    if cluster is None and leader is None:
        yield f"consensus has not begun: {standing.doing or 'waiting'}"
    elif leader is None:
        alive = sum(row["state"] in ("alive", "suspect") for row in voters)
        yield f"no voter leads; {alive} of {len(voters)} known voters are alive"
    elif trouble is not None:
        yield f"requests fail: {trouble}"
    if len(voters) == 2 and not any("two voters" in each for each in standing.problems):
        yield (
            "there are two voters, and neither can be spared: add an agent that votes on a third "
            "machine, however small"
        )


def _log(status: EngineStatus) -> dict[str, Any]:
    """What only a voter knows."""
    return {
        "role": status.role.value,
        "term": status.term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "last_index": status.last_index,
        "snapshot_index": status.snapshot_index,
        "log_entries": status.log_entries,
        "log_bytes": status.log_bytes,
        "refused": status.refused,
        "change_pending": status.change_pending,
        "failure": status.failure,
    }
