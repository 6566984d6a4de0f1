"""The core's own checks for ``constellation verify``, and the run of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_args

from constellation_core.agent.consensus.checks import consensus_checks
from constellation_core.gossip import Path
from constellation_core.model.node import NodeState
from constellation_core.plugins.guard import bounded, explain
from constellation_core.plugins.manager import PluginManager
from constellation_core.verify import VerifyCheck, VerifyResult, VerifyStatus

if TYPE_CHECKING:
    from constellation_core.agent.view import AgentView

_TIMEOUT = 10.0
_RECENT = 300.0
"""Seconds for which a conflict counts as a present problem."""


async def run_all(
    checks: Mapping[str, Sequence[VerifyCheck]], manager: PluginManager
) -> list[dict[str, Any]]:
    """Run all checks at the same time; those of plugins that failed become failures."""
    listed = [
        (owner, check)
        for owner, owned in checks.items()
        if owner == "core" or owner in manager.active
        for check in owned
    ]
    results = await asyncio.gather(*(_run(check) for _, check in listed))
    rows = [
        {"name": check.name, "owner": owner, **asdict(result)}
        for (owner, check), result in zip(listed, results, strict=True)
    ]
    for state in manager.states():
        if state.failed:
            failure = VerifyResult(
                "fail", state.failed, f"mend it, or: constellation plugins disable {state.name}"
            )
        elif state.errors:
            failure = VerifyResult(
                "warn", f"{state.errors} errors; the last: {state.last_error}", "see the log"
            )
        else:
            failure = VerifyResult("ok", "in use")
        rows.append({"name": f"plugin.{state.name}", "owner": state.name, **asdict(failure)})
    return rows


async def _run(check: VerifyCheck) -> VerifyResult:
    try:
        result = await bounded(_called(check), _TIMEOUT)
    except TimeoutError:
        return VerifyResult("fail", f"no answer within {_TIMEOUT:g} s", "see the agent's log")
    except Exception as error:  # noqa: BLE001 - a plugin's check may raise anything
        return VerifyResult("fail", f"the check itself failed: {explain(error)}", "see the log")
    if (
        not isinstance(result, VerifyResult)
        or result.status not in get_args(VerifyStatus)
        or not all(isinstance(text, str) for text in (result.detail, result.remedy))
    ):
        return VerifyResult(
            "fail", "the check gave no usable VerifyResult", "tell the plugin's authors"
        )
    return result


async def _called(check: VerifyCheck) -> VerifyResult:
    return await check.run()


def core_checks(view: AgentView) -> list[VerifyCheck]:
    """The checks of the core, over what the API shows."""
    return [
        VerifyCheck("agent.ready", lambda: _ready(view)),
        VerifyCheck("agent.services", lambda: _services(view)),
        VerifyCheck("gossip.members", lambda: _members(view)),
        VerifyCheck("gossip.key", lambda: _key(view)),
        VerifyCheck("gossip.name", lambda: _name(view)),
        VerifyCheck("gossip.address", lambda: _advertised(view)),
        VerifyCheck("gossip.paths", lambda: _paths(view)),
        VerifyCheck("catalog.replica", lambda: _catalog(view)),
        *consensus_checks(lambda: view.consensus_backend, view.clock_rates),
    ]


async def _ready(view: AgentView) -> VerifyResult:
    reasons = view.not_ready()
    if reasons:
        return VerifyResult("warn", "; ".join(reasons), "wait a moment; then see the agent's log")
    return VerifyResult("ok", f"{view.gossip.local.name} is ready")


async def _services(view: AgentView) -> VerifyResult:
    error = view.services_file.error
    if error is not None:
        return VerifyResult("fail", error, "mend the file, then: constellation reload")
    refused = view.workloads.refused
    if refused:
        words = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        return VerifyResult("fail", words, "change the definition or enable a plugin that fits")
    if view.services_file.path is None:
        return VerifyResult("skip", "this node runs no services of its own ([agent] services)")
    return VerifyResult("ok", f"{len(view.workloads.ids())} services run here")


async def _members(view: AgentView) -> VerifyResult:
    members = view.gossip.members()
    away = [m.name for m in members if m.state in (NodeState.DEAD, NodeState.SUSPECT)]
    failed = {
        seed: result.reason for seed, result in view.discovery.results.items() if not result.joined
    }
    if view.isolated:
        words = "; ".join(f"{seed}: {reason}" for seed, reason in failed.items())
        return VerifyResult(
            "fail",
            f"cut off: no other node answers{f' ({words})' if words else ''}",
            "check that the others run and that UDP and TCP reach their [gossip] bind",
        )
    if away:
        return VerifyResult(
            "warn", f"do not answer: {', '.join(away)}", "look at these hosts, or wait"
        )
    online = sum(member.online for member in members)
    return VerifyResult("ok", f"{online} nodes, all that are known answer")


async def _key(view: AgentView) -> VerifyResult:
    if view.key is None:
        return VerifyResult(
            "warn", "gossip is not encrypted", "set [gossip] encryption = true on every node"
        )
    wrong = [result.seed for result in view.discovery.results.values() if result.wrong_key]
    senders = view.wrong_keys()
    hosts = {member.address[0] for member in view.gossip.members()}
    fellows = [source for source in senders if source in hosts]
    if wrong or fellows:
        where = ", ".join(dict.fromkeys([*wrong, *sorted(fellows)]))
        return VerifyResult(
            "fail",
            f"the cluster key differs from that of {where} (ours is {view.key.fingerprint()})",
            "copy the cluster key file from a node of the cluster, mode 0600, and restart",
        )
    if senders:
        return VerifyResult(
            "warn",
            f"{', '.join(sorted(senders))}: no node of this cluster, sends what the key does not "
            "open",
            "if it should be a node, copy the cluster key file to it; if not, keep it away from "
            f"port {view.gossip.local.address[1]}",
        )
    return VerifyResult("ok", f"key {view.key.fingerprint()}")


async def _advertised(view: AgentView) -> VerifyResult:
    host, port = view.gossip.local.address
    warning = view.discovery.address_warning
    if warning:
        return VerifyResult("warn", warning, "set [gossip] advertise, if nodes cannot reach this")
    return VerifyResult("ok", f"other nodes are told {host} port {port}")


async def _paths(view: AgentView) -> VerifyResult:
    protocol = view.gossip.protocol
    port = view.gossip.local.address[1]
    words = {
        Path.UDP_BLOCKED: "answer over TCP but not over UDP",
        Path.ONE_WAY: "are heard from, but nothing sent to them by UDP arrives",
        Path.RELAYED: "are reached through other nodes only",
    }
    found: dict[Path, list[str]] = {}
    for name, path in protocol.paths.bad(asyncio.get_running_loop().time()).items():
        found.setdefault(path, []).append(name)
    if found:
        return VerifyResult(
            "warn",
            "; ".join(f"{words[path]}: {', '.join(names)}" for path, names in found.items()),
            f"let UDP and TCP port {port} pass in both directions",
        )
    masked = {
        name: f"{name} (from {source[0]}:{source[1]})"
        for name, source in sorted(protocol.seen_from.items())
    }
    if masked:
        return VerifyResult(
            "warn",
            f"send from another address than they tell: {', '.join(masked.values())}",
            "something translates addresses on the way; set [gossip] advertise on these nodes",
        )
    return VerifyResult("ok", "UDP and TCP reach all nodes that were probed")


async def _name(view: AgentView) -> VerifyResult:
    protocol = view.gossip.protocol
    lost = protocol.given_way_to
    if lost is not None:
        return VerifyResult(
            "fail",
            f"another node at {lost.address[0]}:{lost.address[1]} is called {lost.name} too and "
            "was there first; this node stays silent",
            "give one of the two another [agent] name and restart it",
        )
    conflict = protocol.table.conflicts.last
    if conflict is not None and asyncio.get_running_loop().time() - conflict.at < _RECENT:
        claimed, held = conflict.claimed_from, conflict.held_from
        words = (
            f"{claimed[0]}:{claimed[1]} claims the name {conflict.name} of {held[0]}:{held[1]}"
            if conflict.what == "name"
            else f"{conflict.name} and {conflict.holder} are both at {held[0]}:{held[1]}"
        )
        return VerifyResult("warn", words, "give every node a name and an address of its own")
    return VerifyResult("ok", f"nobody else claims {view.gossip.local.name}")


async def _catalog(view: AgentView) -> VerifyResult:
    stats = view.catalog.stats
    if not view.catalog.warm:
        return VerifyResult("warn", "no other node has sent its catalog yet", "wait a moment")
    if stats.rejected:
        return VerifyResult(
            "warn",
            f"{stats.rejected} parts were refused; the last: {stats.last_rejected}",
            "upgrade the node that sends them, or set its clock right",
        )
    return VerifyResult("ok", f"{len(view.catalog.instances())} instances known")
