"""How ``constellation consensus`` prints what the voters, their directories and backups are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from constellation_core.cli import output


def show_status(document: Mapping[str, Any]) -> None:
    """What a running agent knows of consensus; of other backends than raft, what all tell."""
    console = output.console()
    works = "[green]works[/green]" if document["available"] else "[red]does not work[/red]"
    leader = output.escaped(document["leader"] or "none")
    backend = output.escaped(document["backend"] or "consensus")
    console.print(f"[bold]{backend}[/bold]  {works}, leader {leader}")
    for problem in document["problems"]:
        console.print(f"  [yellow]{output.escaped(problem)}[/yellow]")
    if document["backend"] != "raft":
        return
    for name, key in (("cluster", "cluster"), ("this agent", "part"), ("doing", "doing")):
        if document[key]:
            console.print(f"{name:10} {output.escaped(document[key])}")
    if "role" in document:
        console.print(
            f"log        {output.escaped(document['role'])} in term {document['term']}, committed "
            f"up to {document['commit_index']}, {document['log_entries']} entries in "
            f"{output.size(document['log_bytes'])}"
        )
    console.print(f"voters     {len(document['voters'])} of {document['wanted']}")
    output.print_table(
        ("NODE", "STATE", "ADDRESS", "LACKS", "SILENT", "VOTER"),
        [_voter(each, document.get("last_index")) for each in document["voters"]],
        "no voters are known",
    )


def show_directory(document: Mapping[str, Any]) -> None:
    """What the directory of a voter that does not run holds."""
    console = output.console()
    console.print(f"directory  {output.escaped(document['directory'])}")
    if document["voter"] is None and not document["problems"]:
        console.print("           holds no voter's data: this agent does not vote")
        return
    for problem in document["problems"]:
        console.print(f"  [red]{output.escaped(problem)}[/red]")
    if document["in_use"]:
        console.print("  [yellow]an agent uses it at the moment[/yellow]")
    if document["voter"] is None:
        return
    console.print(f"cluster    {document['cluster']}")
    console.print(f"voter      {document['voter']}")
    pending = " (a change of them is not known to be committed)"
    listed = [
        output.escaped(each["address"]) + (" (this one)" if each["id"] == document["voter"] else "")
        for each in document["voters"]
    ]
    console.print(
        f"voters     {len(listed)}: {', '.join(listed)}"
        + (pending if document["change_pending"] else "")
    )
    console.print(
        f"log        up to index {document['last_index']} in term {document['last_term']}, "
        f"known to be committed up to {document['commit_index']}"
    )


def show_losses(document: Mapping[str, Any]) -> None:
    """What a recovery from this directory keeps, and what it may lose."""
    last, certain = document["last_index"], document["commit_index"]
    output.say()
    output.say(f"kept       all up to index {last}")
    if last > certain:
        output.say(
            f"           what is after {certain} was perhaps never acknowledged; now it counts"
        )
    output.say(
        f"lost       what the others acknowledged after index {last}, if anything: this host"
    )
    output.say("           cannot tell. If another survivor's disk can still be read, look there")
    output.say("           (status --offline --json), and give it to --compare here")
    output.say("leases     all are free afterwards; who held one has to take it anew")
    output.say("others     must never run again with the data of the old cluster")
    output.say()


def show_backup(backup: Mapping[str, Any]) -> None:
    """What is in a backup."""
    output.say(f"backup     {backup['path']}")
    output.say(
        f"taken      {datetime.fromtimestamp(backup['at']).astimezone():%Y-%m-%d %H:%M:%S %z}"
    )
    output.say(f"cluster    {backup['cluster']}")
    output.say(
        f"holds      all up to index {backup['index']}: keys: {backup['keys']}, "
        f"leases: {backup['leases']}, {output.size(backup['bytes'])}"
    )


def _voter(row: Mapping[str, Any], last: int | None) -> tuple[str, ...]:
    node = output.escaped(row["node"] or "?") + (" (leader)" if row["leader"] else "")
    match, silent = row["match"], row["silent"]
    return (
        node,
        output.styled(row["state"]),
        output.escaped(row["address"]),
        _lacks(match, last),
        "" if silent is None else output.duration(silent),
        output.escaped(row["id"]),
    )


def _lacks(match: int | None, last: int | None) -> str:
    if match is None or last is None:
        return ""
    # A leader that has just begun to lead knows nothing of a voter before it answers.
    return f"{max(0, last - match)} entries" if match > 0 else "not known"
