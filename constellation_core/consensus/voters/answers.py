"""Answers what other agents ask about voters. Nothing here waits for another agent."""

from __future__ import annotations

import logging
from dataclasses import replace

from constellation_core.consensus.interface import ConsensusError, Role
from constellation_core.consensus.voters.bootstrap import who_founds
from constellation_core.consensus.voters.founding import (
    Founding,
    RefusedError,
    check_write,
    promise,
)
from constellation_core.consensus.voters.network import Part
from constellation_core.consensus.voters.node import Node
from constellation_core.consensus.voters.wire import (
    Ask,
    Form,
    Prepare,
    Promise,
    Reply,
    Request,
    Retire,
)

log = logging.getLogger("constellation.consensus")

_MEMBERS = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)


async def answer(node: Node, request: Request) -> Reply:
    """Do what is asked, if it is right to, and say how this agent stands since."""
    try:
        async with node.lock:
            await _do(node, request)
    except RefusedError as refused:
        return reply(node, False, str(refused), refused)
    except (ConsensusError, OSError, ValueError) as error:
        log.warning("%s could not be done: %s", type(request).__name__, error)
        return reply(node, False, str(error) or type(error).__name__)
    return reply(node, True)


def reply(node: Node, done: bool, reason: str = "", refused: RefusedError | None = None) -> Reply:
    """The answer, and how this agent stands."""
    memory = node.memory
    return Reply(
        done,
        reason,
        refused.order if refused is not None else 0,
        memory.id,
        node.settings.address,
        memory.record.cluster,
        memory.record.former,
        refused.blocking if refused is not None else None,
        refused is not None and refused.never,
    )


async def _do(node: Node, request: Request) -> None:
    match request:
        case Ask():
            pass
        case Promise(founding):
            _promise(node, founding)
        case Form(founding):
            await _form(node, founding)
        case Prepare(cluster, voter):
            await _prepare(node, cluster, voter)
        case Retire():
            await _retire(node, request)


def _promise(node: Node, founding: Founding) -> None:
    memory = node.memory
    if memory.identity is not None:
        if memory.identity[0] == founding.cluster:
            return
        raise RefusedError("this agent holds a voter's data")
    if memory.record.cluster is not None:
        raise RefusedError(f"there is a cluster already, {memory.record.cluster}")
    if memory.id in founding.ids and node.part is not Part.CANDIDATE:
        raise RefusedError("this agent cannot vote at the moment")
    seen = who_founds(node.me(), node.others())
    if seen != founding.founders:
        names = ", ".join(each.name for each in seen)
        raise RefusedError(f"this agent would have it founded by {names}")
    promises = promise(memory.id, memory.record.promises, founding)
    memory.remember(replace(memory.record, promises=promises))


async def _form(node: Node, founding: Founding) -> None:
    memory = node.memory
    if memory.identity is not None:
        if memory.identity[0] != founding.cluster:
            raise RefusedError("this agent holds a voter's data", never=True)
        return
    if memory.record.cluster not in (None, founding.cluster):
        raise RefusedError(f"this agent knows the cluster {memory.record.cluster}", never=True)
    lives = memory.record.cluster == founding.cluster
    check_write(memory.id, memory.record.promises, founding, lives=lives)
    await node.found(founding)


async def _prepare(node: Node, cluster: str, voter: str) -> None:
    memory = node.memory
    if memory.record.cluster not in (None, cluster):
        raise RefusedError(f"this agent knows the cluster {memory.record.cluster}")
    if not node.settings.vote:
        raise RefusedError("this agent does not vote")
    if memory.id != voter:
        raise RefusedError("the voter that is meant is not here any more")
    if memory.identity is None:
        await node.prepare(cluster)
    elif memory.identity[0] != cluster:
        raise RefusedError("this agent holds a voter's data")
    else:
        await node.host.start()
    if node.host.running is None:
        raise RefusedError(f"the engine does not start: {node.host.failure}")


async def _retire(node: Node, request: Retire) -> None:
    memory = node.memory
    if memory.id != request.voter:
        return
    if memory.identity is None:
        return
    if memory.identity[0] != request.cluster:
        raise RefusedError("this agent's voter belongs to another cluster")
    running = node.host.running
    if running is not None:
        status = running.status
        # A leader that was deposed meanwhile may not know that this voter was added since.
        if status.role in _MEMBERS and status.commit_index >= request.index:
            raise RefusedError("this voter knows of later changes, by which it is one")
    await node.retire()
