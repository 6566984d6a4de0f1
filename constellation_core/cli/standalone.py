"""Commands that stand for themselves, from the entry-point group ``constellation.commands``.

Unlike the commands of a plugin they need no settings and no agent: ``constellation demo``
works before anything is configured. Each entry point names a function that takes the rest of
the command line, as a list of words, and returns an exit code. None is imported before it is
called; its line in ``--help`` is the summary of the distribution that brings it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence

import typer

from constellation_core.cli.errors import CliError
from constellation_core.cli.plugin_commands import command_names

GROUP = "constellation.commands"
_PASS_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def add_standalone_commands(app: typer.Typer) -> None:
    """Add all that are installed; a name that is taken is left to its first comer."""
    taken = command_names(app)
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name in taken:
            continue
        taken.add(entry.name)
        summary = entry.dist.metadata["Summary"] if entry.dist is not None else ""
        app.command(entry.name, help=summary, context_settings=_PASS_ON)(_caller(entry))


def _caller(entry: importlib.metadata.EntryPoint) -> Callable[[typer.Context], None]:
    def call(context: typer.Context) -> None:
        try:
            command: Callable[[Sequence[str]], int] = entry.load()
        except Exception as error:
            raise CliError(
                f"the command {entry.name!r} cannot be loaded from {entry.value!r}: "
                f"{type(error).__name__}: {error}",
                "reinstall or remove the distribution that brings it",
            ) from error
        raise typer.Exit(command(context.args))

    return call
