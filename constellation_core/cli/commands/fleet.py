"""``constellation members``, ``services`` and ``leases``: what is where in the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.errors import CliError
from constellation_core.cli.options import ConfigOption, JsonOption

_PATHS = {
    "udp-blocked": " [yellow]UDP blocked[/yellow]",
    "one-way": " [yellow]one-way: hears nothing from here[/yellow]",
    "relayed": " [yellow]reached through others only[/yellow]",
}


def members(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show all nodes that this one knows."""
    rows = AgentClient.from_config(config).get("/api/v1/members")
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        (
            "NODE",
            "STATE",
            "SINCE",
            "ADDRESS",
            "REGION",
            "VERSION",
            "RTT",
            "INCARNATION",
            "INSTANCES",
        ),
        [_member(row) for row in rows],
        "no nodes",
    )


def _member(row: dict[str, Any]) -> tuple[str, ...]:
    host = f"[{row['address']}]" if ":" in row["address"] else row["address"]
    round_trip = f"{row['round_trip'] * 1000:.1f} ms" if row["round_trip"] is not None else ""
    notes = " (this node)" if row["local"] else ""
    notes += _PATHS.get(row["path"], "")
    if row["seen_from"]:
        notes += f" [yellow]seen from {output.escaped(row['seen_from'])}[/yellow]"
    return (
        output.escaped(row["name"]) + notes,
        output.styled(row["state"]),
        output.duration(row["since"]),
        output.escaped(f"{host}:{row['port']}"),
        output.escaped(row["region"]),
        output.escaped(row["version"]),
        round_trip,
        str(row["incarnation"]),
        str(row["instances"]),
    )


def services(
    name: Annotated[str | None, typer.Argument(help="Only this service.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the services of the fleet, with every instance."""
    rows = AgentClient.from_config(config).get("/api/v1/services")
    if name is not None:
        known = ", ".join(row["name"] for row in rows) or "none"
        rows = [row for row in rows if row["name"] == name]
        if not rows:
            raise CliError(f"there is no service {name!r}", f"known are: {known}")
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("SERVICE", "INSTANCE", "NODE", "HEALTH", "ADDRESS", "RESTARTS", "ROUTES", "REASON"),
        [cells for row in rows for cells in _service(row)],
        "no services",
    )


def _service(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    routes = ", ".join(_route(route) for route in row["routes"])
    first = (output.escaped(row["name"]), routes)
    for instance in row["instances"]:
        ports = ", ".join(f"{name} {number}" for name, number in instance["ports"].items())
        yield (
            first[0],
            output.escaped(instance["id"]),
            output.escaped(instance["node"]),
            output.styled(instance["health"]),
            output.escaped(f"{instance['address']} {ports}"),
            str(instance["restarts"]),
            first[1],
            output.escaped(instance["reason"]),
        )
        # Said once for each service.
        first = ("", "")
    if not row["instances"]:
        yield (first[0], "", "", "", "", "", first[1], output.escaped(row["refused"]))


def _route(route: dict[str, Any]) -> str:
    if route["kind"] == "tcp":
        return output.escaped(f"tcp {', '.join(route['entry_points'])}")
    if "rule" in route:
        return output.escaped(route["rule"])
    hosts = route.get("host", "*")
    listed = [hosts] if isinstance(hosts, str) else hosts
    return output.escaped(", ".join(f"{host}{route.get('path', '')}" for host in listed))


def leases(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show who owns what: every lease of the fleet, with its holder and epoch."""
    client = AgentClient.from_config(config)
    rows = client.get("/api/v1/leases")
    if as_json:
        output.print_json(rows)
        return
    consensus = client.get("/api/v1/consensus")
    output.print_table(
        ("LEASE", "NODE", "EPOCH", "TTL", "HELD"),
        [
            (
                output.escaped(row["name"]),
                output.escaped(row["node"]),
                str(row["epoch"]),
                output.duration(row["ttl"]),
                output.duration(row["held"]) if row["held"] is not None else "",
            )
            for row in rows
        ],
        "no leases",
    )
    if not consensus["available"]:
        output.warn(f"this may be old: {'; '.join(consensus['problems'])}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(members)
    app.command()(services)
    app.command()(leases)
