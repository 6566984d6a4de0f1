"""``constellation consensus``: status, recover, backup, restore."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from constellation_core.cli import consensus_views as views
from constellation_core.cli import output
from constellation_core.cli.client import AgentClient
from constellation_core.cli.errors import FAILED, UNREACHABLE, USAGE, CliError
from constellation_core.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from constellation_core.config import Settings
    from constellation_core.consensus.backups import Backup
    from constellation_core.consensus.recovery import NewCluster, Position

app = typer.Typer(
    help="Look at the voters; ways back from a disaster.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)]
_RUNBOOK = "docs/operations.md tells it step by step"


@app.command()
def status(
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Look at the disk, not at the agent.", show_default=False),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who votes and leads; with --offline, what this host's disk holds.

    Exit code 1 with --offline: there is a voter's data that its agent would refuse.
    """
    if not offline:
        document = _online(AgentClient.from_config(config))
        output.print_json(document) if as_json else views.show_status(document)
        return
    from constellation_core.consensus.engine.inspection import inspect

    with _files():
        found = inspect(_directory(_settings(config)) / "voter")
    document = dict(found.document())
    output.print_json(document) if as_json else views.show_directory(document)
    if found.problems:
        raise typer.Exit(FAILED)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, mode 0600.", dir_okay=False)],
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Read the disk, not the agent.", show_default=False),
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all that the voters agreed on into a file.

    That is keys and values, and who holds which lease. The agent of this host must be a voter.
    """
    from constellation_core.consensus.backups import decode_backup, encode_backup
    from constellation_core.consensus.files import replace_file

    if offline:
        from constellation_core.consensus.recovery import back_up

        with _stopped(_settings(config)) as directory:
            content = encode_backup(back_up(directory, now=time.time()))
    else:
        content = AgentClient.from_config(config).get_bytes("/api/v1/consensus/backup")
    with _files():
        document = _describe(file, decode_backup(content))
        if file.exists():
            _confirm(f"{file} exists. Write over it?", yes)
        replace_file(file, content)
    output.print_json(document) if as_json else views.show_backup(document)


@app.command()
def recover(
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `status --offline --json` printed on another survivor; may be given "
            "several times. Refused if that one kept more.",
            dir_okay=False,
            exists=True,
        ),
    ] = None,
    despite_damage: Annotated[
        bool,
        typer.Option(
            "--despite-damage",
            help="Go on with what can be read of a damaged journal.",
            show_default=False,
        ),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="IP:PORT at which other voters will reach this one. [default: as before]",
            show_default=False,
        ),
    ] = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """When most voters are gone for good: go on with this host's.

    It becomes the only voter of a new cluster. The agent must be stopped. Run it on the survivor
    that kept the most, and on that one only.
    """
    from constellation_core.consensus.engine.inspection import inspect
    from constellation_core.consensus.recovery import check_recoverable
    from constellation_core.consensus.recovery import recover as carry_out

    others = [_position(path) for path in compare or ()]
    with _stopped(_settings(config)) as directory:
        found = inspect(directory / "voter")
        check_recoverable(found, others=others, despite_damage=despite_damage, address=address)
        document = dict(found.document())
        if not as_json:
            views.show_directory(document)
            views.show_losses(document)
        _confirm("Make this voter the only one of a new cluster?", yes)
        made = carry_out(
            directory,
            now=time.time(),
            others=others,
            despite_damage=despite_damage,
            address=address,
        )
    _say_made(
        made,
        as_json,
        {"kept_index": document["last_index"], "certain_index": document["commit_index"]},
        [
            "start the agent of this host, and no other voter's with its old data",
            f"on every other host that had a voter, move {directory / 'voter'} away before its "
            "agent is started again",
            "constellation consensus status, until there are as many voters as are wanted",
        ],
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.", dir_okay=False)],
    address: Annotated[
        str | None,
        typer.Option(
            help="IP:PORT at which other voters will reach this one. [default: by the settings]",
            show_default=False,
        ),
    ] = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a new cluster from a backup.

    This host has its only voter. The agent must be stopped. For when all voters are lost, or to
    go back in time.
    """
    from constellation_core.consensus.backups import MAX_BACKUP, decode_backup
    from constellation_core.consensus.recovery import occupied
    from constellation_core.consensus.recovery import restore as carry_out

    settings = _settings(config)
    with _files():
        if file.stat().st_size > MAX_BACKUP:
            raise ValueError("it is too large for a backup")
        content = decode_backup(file.read_bytes())
        document = _describe(file, content)
    with _stopped(settings) as directory:
        if not as_json:
            views.show_backup(document)
        if occupied(directory):
            _confirm(
                f"{directory / 'voter'} holds a voter's data. Move it to voter.removed (in place "
                "of what may be there), and begin a new cluster?",
                yes,
            )
        else:
            _confirm("Begin a new cluster with this?", yes)
        made = carry_out(directory, content, now=time.time(), address=address or _address(settings))
    _say_made(
        made,
        as_json,
        {"backup": document},
        [
            "start the agent of this host",
            f"on every other host that had a voter, move {directory / 'voter'} away before its "
            "agent is started again",
        ],
    )


def _online(client: AgentClient) -> dict[str, Any]:
    try:
        document: dict[str, Any] = client.get("/api/v1/consensus")
    except CliError as error:
        if error.exit_code == UNREACHABLE:
            error.hint += "; --offline looks at the disk instead"
        raise
    return document


def _settings(config: Path | None) -> Settings:
    from constellation_core.config import load

    return load(config).settings


def _directory(settings: Settings) -> Path:
    return settings.agent.data_dir / "consensus"


def _address(settings: Settings) -> str:
    """Where other voters will reach this host's, as far as the settings say so."""
    consensus, gossip = settings.consensus, settings.gossip
    port = (consensus.advertise and consensus.advertise.port) or consensus.bind.port
    for each in (consensus.advertise, consensus.bind, gossip.advertise, gossip.bind):
        if each is not None and each.ip is not None and not each.is_unspecified:
            return str(replace(each, port=port))
    raise CliError(
        "the settings do not say at which address other voters reach this host",
        "name it: --address IP:PORT",
        USAGE,
    )


@contextlib.contextmanager
def _stopped(settings: Settings) -> Iterator[Path]:
    """The agent's directory for consensus, while the agent is kept from starting."""
    from constellation_core.agent.data_dir import DataDir, DataDirError

    data_dir = settings.agent.data_dir
    owner = data_dir.stat().st_uid if data_dir.exists() else os.geteuid()
    if owner != os.geteuid():
        raise CliError(
            f"{data_dir} belongs to user {owner}, and files of another would be of no use to it",
            f"run this as that user, for instance with: sudo -u '#{owner}'",
            USAGE,
        )
    with _files(), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(DataDir(data_dir).locked())
        except DataDirError as error:
            raise CliError(str(error), f"the agent must be stopped; {_RUNBOOK}") from None
        yield _directory(settings)


@contextlib.contextmanager
def _files() -> Iterator[None]:
    """What goes wrong with files and their content, as errors of a command."""
    from constellation_core.consensus.interface import ConsensusError

    try:
        yield
    except (ConsensusError, ValueError) as error:
        raise CliError(str(error), _RUNBOOK) from error
    except OSError as error:
        raise CliError(f"{error.filename or 'a file'}: {error.strerror or error}") from error


def _position(path: Path) -> Position:
    from constellation_core.consensus.recovery import Position

    try:
        document = json.loads(path.read_bytes())
        last = int(document["last_term"]), int(document["last_index"])
        return Position(str(path), str(document["cluster"]), last)
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(
            f"{path} is not what `constellation consensus status --offline --json` prints",
            exit_code=USAGE,
        ) from error


def _describe(path: Path, backup: Backup) -> dict[str, Any]:
    from constellation_core.consensus.state import Query, ReplicatedState, Space

    state = ReplicatedState()
    state.restore(backup.state)
    return {
        "path": str(path),
        "cluster": backup.cluster,
        "at": backup.at,
        "index": backup.index,
        "keys": len(state.answer(Query(Space.KEYS, "", exact=False)).entries),
        "leases": len(state.leases()),
        "bytes": len(backup.state),
    }


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(
            f"this has to be confirmed: {question}", "answer beforehand with --yes", USAGE
        )
    if not typer.confirm(question, err=True):
        raise CliError("nothing was changed")


def _say_made(made: NewCluster, as_json: bool, more: dict[str, Any], next_steps: list[str]) -> None:
    if as_json:
        voter = {"id": made.voter.id, "address": made.voter.address}
        output.print_json({"former": made.former, "cluster": made.cluster, "voter": voter, **more})
        return
    output.say(f"the cluster is {made.cluster} now, with one voter, at {made.voter.address}")
    output.say("\nnext:")
    for step in next_steps:
        output.say(f"  - {step}")
