"""``constellation status``: this agent and its cluster on one page."""

from __future__ import annotations

from typing import Any

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.options import ConfigOption, JsonOption


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show this agent, its cluster, its plugins and its tasks."""
    document = AgentClient.from_config(config).get("/api/v1/status")
    if as_json:
        output.print_json(document)
    else:
        _show(document)


def _show(status: dict[str, Any]) -> None:
    console = output.console()
    ready = "[green]ready[/green]" if status["ready"] else "[yellow]not ready[/yellow]"
    node = output.escaped(status["node"])
    console.print(
        f"[bold]{node}[/bold]  {ready}  constellation {status['version']}, pid {status['pid']}, "
        f"up {output.duration(status['uptime'])}"
    )
    for reason in status["not_ready"]:
        console.print(f"  [yellow]{output.escaped(reason)}[/yellow]")
    if status["isolated"]:
        console.print("  [red]cut off: no other node answers; serving from what is known[/red]")
    gossip = status["gossip"]
    for source, count in gossip["wrong_keys"].items():
        console.print(
            f"  [red]{output.escaped(source)} sends what our cluster key {status['key']} does "
            f"not open ({count} messages): another key, or a stranger[/red]"
        )
    services = status["services_file"]
    if services["error"]:
        console.print(f"  [red]services: {output.escaped(services['error'])}[/red]")
    for name, reason in services["refused"].items():
        console.print(f"  [red]service {output.escaped(name)}: {output.escaped(reason)}[/red]")
    console.print(f"nodes      {_counts(status['members'])}")
    console.print(f"instances  {_counts(status['instances'])}")
    console.print(
        f"gossip     {gossip['address']}, in {output.size(gossip['bytes_in'])}, out "
        f"{output.size(gossip['bytes_out'])}, health score {gossip['health_score']}, "
        f"key {status['key'] or '[yellow]none[/yellow]'}"
    )
    messages = gossip["messages"]
    console.print(
        f"  received {_kinds(messages['datagrams_in'], messages['streams_in'])}\n"
        f"  sent     {_kinds(messages['datagrams_out'], messages['streams_out'])}"
    )
    console.print(
        f"  queue    {gossip['queued']} messages wait; late by {gossip['lag'] * 1000:.0f} ms, "
        f"{gossip['stalls']} stalls, {gossip['malformed']} malformed, "
        f"{gossip['incompatible']} not believed"
    )
    catalog = status["catalog"]
    console.print(
        f"catalog    {catalog['updates_applied']} updates, {catalog['pulls']} pulled, "
        f"{catalog['queued']} wait; {catalog['overflowed']} left to comparisons, "
        f"{catalog['rejected']} refused"
    )
    if catalog["outdone"]:
        console.print(
            f"  [yellow]{catalog['outdone']} times others held what this node never "
            "published[/yellow]"
        )
    _show_consensus(status["consensus"])
    for name, seconds in catalog["held_back"].items():
        console.print(
            f"  [yellow]{output.escaped(name)} recovered, but changes too often: told in "
            f"{seconds:.0f} s[/yellow]"
        )
    if gossip["name_lost_to"]:
        console.print(
            f"  [red]another node at {output.escaped(gossip['name_lost_to'])} has this node's "
            "name and was there first: this node is silent; rename one of the two[/red]"
        )
    conflict = gossip["last_conflict"]
    if conflict is not None:
        console.print(f"  [yellow]{output.escaped(_conflict(conflict))}[/yellow]")
    for seed, result in gossip["seeds"].items():
        if result != "joined":
            console.print(
                f"  [yellow]seed {output.escaped(seed)}: {output.escaped(result)}[/yellow]"
            )
    output.print_table(
        ("PLUGIN", "VERSION", "STATE", "REASON"),
        [
            (
                output.escaped(each["name"]),
                output.escaped(each["version"]),
                output.styled(each["state"]),
                output.escaped(each["reason"] or each["last_error"]),
            )
            for each in status["plugins"]
        ],
        "no plugins are enabled",
    )
    output.print_table(
        ("TASK", "STATE", "FAILURES", "LAST ERROR"),
        [
            (
                output.escaped(f"{task['owner']}:{task['name']}"),
                output.styled(task["state"]),
                str(task["failures"]),
                output.escaped(task["last_error"]),
            )
            for task in status["tasks"]
        ],
        "no background tasks",
    )


def _show_consensus(consensus: dict[str, Any]) -> None:
    console = output.console()
    parts = [output.escaped(consensus["backend"] or "off")]
    if consensus["leader"] is not None:
        parts.append(f"led by {output.escaped(consensus['leader'])}")
    voters = consensus.get("voters") or []
    if voters:
        names = ", ".join(each["node"] or f"voter {each['id'][:8]}" for each in voters)
        parts.append(f"{len(voters)} of {consensus['wanted']} voters: {output.escaped(names)}")
    parts.append(f"{consensus['leases']} leases")
    state = "" if consensus["available"] else "  [yellow]not available[/yellow]"
    console.print(f"consensus  {', '.join(parts)}{state}")
    for problem in consensus["problems"]:
        console.print(f"  [yellow]{output.escaped(problem)}[/yellow]")


def _kinds(*tallies: dict[str, dict[str, int]]) -> str:
    """Bytes by kind of message, the largest first."""
    totals: dict[str, int] = {}
    for tally in tallies:
        for kind, counted in tally.items():
            totals[kind] = totals.get(kind, 0) + counted["bytes"]
    largest = sorted(totals.items(), key=lambda each: -each[1])
    return ", ".join(f"{output.escaped(kind)} {output.size(size)}" for kind, size in largest) or "-"


def _conflict(conflict: dict[str, Any]) -> str:
    ago = output.duration(conflict["seconds_ago"])
    if conflict["what"] == "name":
        return (
            f"{ago} ago {conflict['claimed_from']} claimed the name {conflict['name']} "
            f"of {conflict['held_from']}"
        )
    return (
        f"{ago} ago {conflict['name']} was said to be at {conflict['held_from']}, "
        f"where {conflict['holder']} is"
    )


def _counts(counts: dict[str, int]) -> str:
    words = [f"{count} {output.styled(word)}" for word, count in counts.items()]
    return ", ".join(words) or "none"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)
