"""Commands that stand for themselves, from the entry-point group ``constellation.commands``.

Unlike the commands of a plugin they need no settings and no agent: ``constellation demo``
works before anything is configured. Each entry point names a function that takes the rest of
the command line, as a list of words, and returns an exit code. None is imported before it is
called; its line in ``--help`` is the summary of the distribution that brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from constellation_core.cli.errors import CliError
from constellation_core.cli.plugin_commands import command_names
from constellation_core.plugins.distributions import COMMANDS, Offer

_PASS_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def add_standalone_commands(app: typer.Typer, offers: Sequence[Offer]) -> None:
    """Add all among ``offers``; a name that is taken is left to its first comer."""
    taken = command_names(app)
    for offer in offers:
        if offer.group != COMMANDS or offer.name in taken:
            continue
        taken.add(offer.name)
        app.command(offer.name, help=offer.summary, context_settings=_PASS_ON)(_caller(offer))


def _caller(offer: Offer) -> Callable[[typer.Context], None]:
    def call(context: typer.Context) -> None:
        from importlib.metadata import EntryPoint

        try:
            command: Callable[[Sequence[str]], int] = EntryPoint(
                offer.name, offer.target, offer.group
            ).load()
        except Exception as error:
            raise CliError(
                f"the command {offer.name!r} cannot be loaded from {offer.target!r}: "
                f"{type(error).__name__}: {error}",
                f"reinstall or remove {offer.distribution}",
            ) from error
        raise typer.Exit(command(context.args))

    return call
