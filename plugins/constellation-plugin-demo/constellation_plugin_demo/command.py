"""``constellation demo``."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from constellation_core.testing.cluster import NodeEndedError
from constellation_core.testing.free_ports import NoFreePortError
from constellation_core.testing.waiting import NotInTimeError
from constellation_plugin_demo.result import DemoResult
from constellation_plugin_demo.scenario import DemoOptions, Display, run_demo
from constellation_plugin_traefik.server import TraefikError

_PREFIX = "constellation-demo-"
_LONGEST_FOLDER = 80
_MOST_NODES = 9
_MOST_RATE = 1000.0


def main(arguments: Sequence[str]) -> int:
    """Run the demo.

    Returns:
        The exit code: 0 when the cluster was whole at the end, 1 when not, 2 for arguments that
        make no sense.
    """
    parsed = _parser().parse_args(arguments)
    options = DemoOptions(parsed.nodes, parsed.rate, parsed.duration, parsed.chaos, parsed.seed)
    display = _display(parsed.json)
    stop = asyncio.Event()
    keep = False
    folder = _temporary_folder()
    try:
        result = asyncio.run(_run(options, folder, display, stop))
        # Of a run that the user ended nobody wants the logs.
        keep = not result.ok and not stop.is_set()
        if parsed.json:
            sys.stdout.write(json.dumps(result.document()) + "\n")
            sys.stdout.flush()
            sys.stderr.write("".join(f"not whole: {problem}\n" for problem in result.problems))
        else:
            _show(result)
    except (NodeEndedError, NotInTimeError, NoFreePortError, TraefikError, OSError) as error:
        keep = not stop.is_set()
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        if keep:
            # What the agents and Traefik logged tells more.
            sys.stderr.write(f"logs: {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if result.ok else 1


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if len(str(folder)) > _LONGEST_FOLDER:
        # Unix sockets go below it, and their paths may not be long.
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    return folder


async def _run(
    options: DemoOptions, folder: Path, display: Display, stop: asyncio.Event
) -> DemoResult:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup the end of the terminal is to be ignored.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    return await run_demo(options, folder, display, stop)


def _display(as_json: bool) -> Display:
    from rich.console import Console

    from constellation_plugin_demo.display import LineDisplay, TableDisplay

    console = Console()
    return LineDisplay() if as_json or not console.is_terminal else TableDisplay(console)


def _show(result: DemoResult) -> None:
    from rich.console import Console

    from constellation_plugin_demo.display import print_result

    print_result(Console(), result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "constellation demo",
        description="Three agents, a sample service on each, a real Traefik and a steady load, on "
        "this host. Ctrl-C ends it and leaves nothing behind.",
    )
    parser.add_argument(
        "--chaos",
        action="store_true",
        help="kill a node with its service (SIGKILL), bring it back, and again",
    )
    parser.add_argument(
        "--duration", type=_positive, metavar="S", help="end after S seconds of load"
    )
    parser.add_argument(
        "--nodes", type=_nodes, default=3, metavar="N", help="agents, 2 to 9 (default: 3)"
    )
    parser.add_argument(
        "--rate", type=_rate, default=50.0, metavar="R", help="requests a second (default: 50)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="choose the same victims again")
    parser.add_argument("--json", action="store_true", help="print one last line for machines")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _rate(text: str) -> float:
    value = _positive(text)
    if value > _MOST_RATE:
        raise argparse.ArgumentTypeError(f"must be at most {_MOST_RATE:g}")
    return value


def _nodes(text: str) -> int:
    value = int(text)
    if not 2 <= value <= _MOST_NODES:
        raise argparse.ArgumentTypeError(f"must be from 2 to {_MOST_NODES}")
    return value
