"""How long ``--help`` takes on a warm file cache, with the default plugins enabled.

Ours beside two well-known pluggable command lines, llm and datasette, each also with its default
plugins. The runs of all three take turns, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.result import BenchmarkResult, Criterion, MissingPeerError, Tell

SUMMARY = "`constellation --help` beside `llm --help` and `datasette --help`"

ROUNDS = 25
_AIM = 0.2
_PEERS = ("llm", "datasette")


def run(tell: Tell) -> BenchmarkResult:
    """Measure; takes about half a minute."""
    programs = {name: _find(name) for name in ("constellation", *_PEERS)}
    # As an installation leaves it; pip compiles what it copies, but not what is editable.
    root = Path(__file__).resolve().parent.parent
    for package in (root / "constellation_core", root / "plugins"):
        compileall.compile_dir(package, quiet=2)
    with tempfile.TemporaryDirectory(prefix="constellation-cli-") as folder:
        environment: dict[str, str] = {**os.environ, "LLM_USER_PATH": folder}
        _command([programs["constellation"], "init", "--json"], folder, environment)
        times: dict[str, list[float]] = {name: [] for name in programs}
        tell(f"{ROUNDS} rounds of --help, after one to warm the file cache")
        for number in range(ROUNDS + 1):
            for name, program in programs.items():
                began = time.perf_counter()
                _command([program, "--help"], folder, environment)
                if number:
                    times[name].append(time.perf_counter() - began)
    ours = median(times["constellation"])
    peers = {name: median(times[name]) for name in _PEERS}
    return BenchmarkResult(
        "cli-start",
        ours={"median_s": round(ours, 4), "best_s": round(min(times["constellation"]), 4)},
        peer={
            f"{name}_{what}_s": round(function(times[name]), 4)
            for name in _PEERS
            for what, function in (("median", median), ("best", min))
        },
        ratio=round(ours / min(peers.values()), 3),
        criteria=(Criterion("--help in under 0.2 s (median)", ours < _AIM),),
    )


def _find(name: str) -> str:
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise MissingPeerError(
            f"{name} is not installed; install it with: {sys.executable} -m pip install {name}"
        )
    return found


def _command(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    # What runs is known, and nothing of it comes from outside.
    done = subprocess.run(
        list(words), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} exits with {done.returncode}: {done.stderr}")
