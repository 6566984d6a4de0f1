"""The benchmarks' contract: one line of JSON with fixed keys, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES
from benchmarks.result import BenchmarkResult, Criterion

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
KEYS = {"name", "ours", "peer", "ratio", "aim", "met"}


def run(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_list_names_all() -> None:
    assert {each["name"] for each in json.loads(run("list", "--json").stdout)} == set(MODULES)
    for name in MODULES:
        assert name in run("list").stdout


def test_a_result_is_one_line_with_the_keys_of_the_contract() -> None:
    done = run("run", "traefik-document", "--json")
    (line,) = done.stdout.splitlines()
    document = json.loads(line)
    assert set(document) == KEYS
    assert document["name"] == "traefik-document"
    # Whether the aim is met depends on the machine; that the exit code says so does not.
    assert done.returncode == (0 if document["met"] else 1)
    assert document["ratio"] > 0


@pytest.mark.parametrize(
    ("name", "peer"),
    [("agent-idle", "serf"), ("consensus-etcd", "etcd"), ("lease-handover", "etcd")],
)
def test_a_missing_peer_is_exit_code_3_and_named(name: str, peer: str) -> None:
    # Without the search path there is none.
    done = run("run", name, "--json", environment={"PATH": "/nonexistent"})
    assert done.returncode == 3
    assert peer in done.stderr
    assert done.stdout == ""


def test_an_unknown_one_is_exit_code_2_and_lists_the_known() -> None:
    done = run("run", "nothing")
    assert done.returncode == 2
    for name in MODULES:
        assert name in done.stderr


def test_one_part_of_the_aim_that_is_not_met_is_enough() -> None:
    def result(*met: bool) -> BenchmarkResult:
        parts = tuple(Criterion(f"part {number}", each) for number, each in enumerate(met))
        return BenchmarkResult("x", {}, {}, 1.0, parts)

    assert result(True, True).met
    assert not result(True, False).met
    assert result(True, False).aim == "part 0, part 1"
