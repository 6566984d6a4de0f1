"""``python -m benchmarks``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from benchmarks.result import Benchmark, BenchmarkResult, MissingPeerError

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "traefik-document": "traefik_document",
        "reroute": "reroute",
        "cli-start": "cli_start",
        "agent-idle": "agent_idle",
        "gossip-serf": "gossip_serf",
        "gossip-partitions": "gossip_partitions",
        "gossip-scale": "gossip_scale",
        "consensus-etcd": "consensus_etcd",
        "lease-handover": "lease_handover",
        "placement": "placement",
    }
)


def main() -> int:
    """Run what the command line asks for.

    Returns:
        The exit code: 0 when the aim is met, 1 when not, 2 for a wrong command line, 3 when the
        peer is missing.
    """
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="name all benchmarks")
    running = commands.add_parser("run", help="run one benchmark")
    running.add_argument("name", choices=sorted(MODULES))
    for command in (listing, running):
        command.add_argument("--json", action="store_true", help="print one line for machines")
    arguments = parser.parse_args()
    if arguments.command == "list":
        return _list(arguments.json)
    return _run(arguments.name, arguments.json)


def _load(name: str) -> Benchmark:
    return cast(Benchmark, importlib.import_module(f"benchmarks.{MODULES[name]}"))


def _list(as_json: bool) -> int:
    summaries = {name: _load(name).SUMMARY for name in MODULES}
    if as_json:
        print(json.dumps([{"name": n, "summary": text} for n, text in summaries.items()]))
        return 0
    width = max(map(len, summaries))
    for name, text in summaries.items():
        print(f"{name:<{width}}  {text}")
    return 0


def _run(name: str, as_json: bool) -> int:
    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        result = _load(name).run(tell)
    except MissingPeerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 3
    if as_json:
        print(json.dumps(result.document()))
    else:
        _show(result)
    return 0 if result.met else 1


def _show(result: BenchmarkResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=result.name, title_justify="left")
    table.add_column("figure")
    table.add_column("ours", justify="right")
    table.add_column("peer", justify="right")
    for figure in dict.fromkeys([*result.ours, *result.peer]):
        table.add_row(figure, _word(result.ours.get(figure)), _word(result.peer.get(figure)))
    console.print(table)
    console.print(f"ours / peer: {result.ratio:.3g}")
    for each in result.criteria:
        verdict = Text("met    ", "green") if each.met else Text("not met", "red")
        console.print(verdict, each.text)


def _word(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
