"""``constellation verify``: what is wrong, and what to do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import typer

from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.errors import FAILED, CliError
from constellation_core.cli.options import ConfigOption, JsonOption


def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Run the checks of the core and of all plugins; exit code 1 when one fails."""
    rows, readable = _settings(config)
    if readable:
        rows += _agent(config)
    counts = Counter(row["status"] for row in rows)
    if as_json:
        output.print_json({"ok": not counts["fail"], "checks": rows})
    else:
        _show(rows)
        words = [f"{counts[each]} {output.styled(each)}" for each in ("ok", "warn", "fail", "skip")]
        output.console().print(", ".join(words))
    if counts["fail"]:
        raise typer.Exit(FAILED)


def _settings(config: Path | None) -> tuple[list[dict[str, Any]], bool]:
    """What is wrong with the settings, and whether they tell where the agent is all the same."""
    from constellation_core.cli.commands.config import checked
    from constellation_core.config import ConfigError

    try:
        loaded, result = checked(config)
    except ConfigError as error:
        return [_row("config.settings", "fail", str(error), "mend agent.toml")], False
    rows = [
        _row("config.settings", "fail", str(each), "mend agent.toml") for each in result.problems
    ]
    rows += [_row("config.settings", "warn", str(each), "") for each in result.warnings]
    return rows or [_row("config.settings", "ok", f"{loaded.path} is right", "")], True


def _agent(config: Path | None) -> list[dict[str, Any]]:
    try:
        answer: list[dict[str, Any]] = AgentClient.from_config(config).get("/api/v1/verify")
    except CliError as error:
        return [_row("agent.running", "fail", str(error), error.hint)]
    return [_row("agent.running", "ok", "the agent answers", ""), *answer]


def _row(name: str, status: str, detail: str, remedy: str) -> dict[str, Any]:
    return {"name": name, "owner": "core", "status": status, "detail": detail, "remedy": remedy}


def _show(rows: list[dict[str, Any]]) -> None:
    output.print_table(
        ("CHECK", "", "FOUND", "WHAT TO DO"),
        [
            (
                output.escaped(row["name"]),
                output.styled(row["status"]),
                output.escaped(row["detail"]),
                output.escaped(row["remedy"]),
            )
            for row in rows
        ],
        "nothing to check",
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)
