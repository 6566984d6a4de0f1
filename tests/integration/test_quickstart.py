"""Every command of docs/quickstart.md, run in order in an empty folder, with what it prints."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from constellation_core.testing.free_ports import PortPicker

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "quickstart.md"
PORTS = ("7946", "7956", "7957", "8081", "8091", "8000")
PATIENCE = 30.0
"""Seconds in which a command must come to print what the page shows."""

# What differs from run to run: numbers (ports, times, sizes) and checksums.
_VARIES = re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b|\d+(?:\.\d+)?")


class Page:
    """The page's commands and files, with other ports, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        picker = PortPicker("127.0.0.1")
        self.text = DOCUMENT.read_text()
        for port in PORTS:
            self.text = re.sub(rf":{port}\b", f":{picker.pick()}", self.text)
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        # The page's first node has the default ports; here they may be taken.
        (api,) = set(re.findall(r"http://127.0.0.1:(\d+)/api/traefik", self.text))
        self.environ = {
            "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
            "HOME": str(folder),
            "CONSTELLATION_CONFIG": "node-a/agent.toml",
            "CONSTELLATION_API_BIND": f"127.0.0.1:{api}",
            "CONSTELLATION_CONSENSUS_BIND": f"127.0.0.1:{picker.pick()}",
            "COLUMNS": "200",
        }

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Each command with the lines that the page shows below it."""
        for block in re.findall(r"```console\n(.*?)```", self.text, re.DOTALL):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield command, [line for line in output.splitlines() if line.strip()]

    def write_files(self) -> None:
        """The files that the page says to write."""
        (traefik,) = re.findall(r"```yaml\n(.*?)```", self.text, re.DOTALL)
        (self.folder / "traefik.yml").write_text(traefik)

    def start(self, command: str) -> None:
        """Run a command that ends with ``&`` until the end of the test."""
        with (self.folder / f"{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command.removesuffix('&')}"],
                cwd=self.folder,
                env=self.environ,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.started.append(process)

    def run(self, command: str) -> str:
        """Run a command; what it prints."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout if done.returncode == 0 else f"{done.stderr} [{done.returncode}]"

    def end(self) -> None:
        """Stop everything that was started."""
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path)
    yield page
    page.end()


def words(line: str) -> str:
    return " ".join(_VARIES.sub("#", line).split())


def lacking(expected: list[str], printed: str) -> list[str]:
    """The lines of the page that were not printed; numbers and spaces may differ."""
    lines = [words(line) for line in printed.splitlines()]
    return [each for each in expected if not any(words(each) in line for line in lines)]


def test_every_command_does_what_the_page_shows(page: Page) -> None:
    for program in ("curl", "traefik"):
        if shutil.which(program, path=page.environ["PATH"]) is None:
            pytest.skip(f"the page uses {program}, which is not installed here")
    page.write_files()
    for command, expected in page.commands():
        if command.endswith("&"):
            page.start(command)
            continue
        deadline = time.monotonic() + PATIENCE
        once = command.startswith(("constellation init", "kill", "constellation leave"))
        while True:
            printed = page.run(command)
            missing = lacking(expected, printed)
            if not missing and " [" not in printed[-6:]:
                break
            if once or time.monotonic() > deadline:
                pytest.fail(f"$ {command}\n{printed}\nlacks {missing}\n{page.logs()}")
            time.sleep(0.1)


def test_the_page_uses_only_ports_that_the_test_replaces() -> None:
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", DOCUMENT.read_text())) == set(PORTS)
