"""Ports that are given once, however many look for one."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from constellation_core.testing.free_ports import NoFreePortError, PortPicker

OTHER = """
from constellation_core.testing.free_ports import PortPicker
picker = PortPicker()
picker._below = {below}
try:
    print(picker.pick())
except RuntimeError:
    print("none")
"""


def picker(ports: int) -> PortPicker:
    """One that knows so many ports."""
    made = PortPicker()
    made._below = 10_000 + ports
    return made


def exhausted(each: PortPicker) -> set[int]:
    """All that it gives."""
    given: set[int] = set()
    try:
        while True:
            given.add(each.pick())
    except NoFreePortError:
        return given


@pytest.mark.skipif(sys.platform != "linux", reason="ports are claimed on Linux only")
def test_two_pickers_never_give_the_same_port() -> None:
    first, second = picker(20), picker(20)
    some = {first.pick() for _ in range(5)}
    assert len(some) == 5
    assert not exhausted(second) & some


@pytest.mark.skipif(sys.platform != "linux", reason="ports are claimed on Linux only")
def test_a_port_is_claimed_against_other_processes_until_its_picker_is_gone() -> None:
    mine = picker(3)
    given = exhausted(mine)
    command = [sys.executable, "-c", OTHER.format(below=10_003)]
    other = subprocess.run(command, capture_output=True, text=True, check=True)
    assert other.stdout == "none\n"
    del mine
    gc.collect()
    other = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(other.stdout) in given
