"""``constellation init``: the first files of a node."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from constellation_core.cli import output
from constellation_core.cli.errors import USAGE, CliError
from constellation_core.cli.options import JsonOption


def init(
    path: Annotated[
        Path,
        typer.Argument(help="The file to write (*.toml), or the folder for it.", show_default=True),
    ] = Path("agent.toml"),
    name: Annotated[
        str | None, typer.Option(help="The node's name. [default: the host's name]")
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option(help="HOST:PORT of another node; may be given several times."),
    ] = None,
    bind: Annotated[
        str | None, typer.Option(help="Gossip address. [default: 0.0.0.0:7946]")
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A plugin to enable. [default: process, monitor, traefik]"),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="The cluster's key, copied from a node that has it.")
    ] = None,
    services: Annotated[
        bool, typer.Option("--services", help="Write a sample services.py.")
    ] = False,
    voters: Annotated[
        int | None,
        typer.Option(
            help="How many agents keep leases and the store: 1, 3, 5 or 7; the same on every node. "
            "[default: 3]"
        ),
    ] = None,
    witness: Annotated[
        bool,
        typer.Option(
            "--witness",
            help="For a small machine beside two hosts: enable no plugin; the agent only votes.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented agent.toml and a cluster key; nothing that exists is overwritten."""
    from constellation_core.config import SecretError, initialise
    from constellation_core.plugins.discovery import installed_plugins

    available = {each.name for each in installed_plugins()}
    if witness and (plugin or services):
        raise CliError(
            "a witness has no plugins and no services",
            "leave out --witness, or --plugin and --services",
            USAGE,
        )
    usual = () if witness else ("process", "monitor", "traefik")
    wanted = plugin or [each for each in usual if each in available]
    missing = [each for each in wanted if each not in available]
    if missing:
        known = ", ".join(sorted(available)) or "none"
        raise CliError(f"no plugin {missing[0]!r} is installed", f"installed are {known}")
    try:
        written = initialise(
            path,
            name=name,
            join=join or (),
            bind=bind,
            plugins=wanted,
            key_file=key_file,
            services=services,
            voters=voters,
        )
    except SecretError as error:
        raise CliError(str(error)) from None
    if as_json:
        document = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(written).items()
        }
        output.print_json(document)
        return
    output.say(f"wrote {written.config}")
    made = "wrote" if written.key_created else "uses"
    output.say(f"{made} {written.key_file} (fingerprint {written.fingerprint})")
    if written.services is not None:
        output.say(f"wrote {written.services}")
    output.say("\nnext:")
    for step in written.next_steps:
        output.say(f"  - {step}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)
