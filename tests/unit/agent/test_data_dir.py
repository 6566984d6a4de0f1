"""What an agent keeps on disk: damaged, full, in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation_core.agent.data_dir import DataDir, DataDirError


def test_epochs_grow_also_when_the_clock_goes_back(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.next_epoch(1_800_000_000.5) == 1_800_000_000
    assert data.next_epoch(1_700_000_000) == 1_800_000_001


@pytest.mark.parametrize("text", ["", "no number", "9" * 30, "9" * 5000, "-5", "\udcff"])
def test_a_damaged_epoch_is_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "epoch").write_bytes(text.encode(errors="surrogateescape"))
    epoch = DataDir(tmp_path).next_epoch(1_800_000_000)
    assert epoch == 1_800_000_000
    assert epoch < 2**32


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", "[[]]", '[["nowhere", 1]]', '[["127.0.0.1", 1e999]]', "[" * 100_000, "\xff"],
)
def test_damaged_peers_are_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "peers.json").write_text(text, encoding="latin-1")
    assert DataDir(tmp_path).peers() == set()


def test_peers_with_ports_that_are_none_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text('[["::1", 7946], ["::1", 0], ["::1", 70000]]')
    assert DataDir(tmp_path).peers() == {("::1", 7946)}


def test_a_folder_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataDirError, match=r"\[agent\] data_dir"), DataDir(file).locked():
        pass
    with DataDir(tmp_path).locked():
        with pytest.raises(DataDirError, match="another agent"), DataDir(tmp_path).locked():
            pass
        # As on a full disk: what should be replaced cannot be.
        (tmp_path / "epoch.new").mkdir()
        with pytest.raises(DataDirError, match="cannot write"):
            DataDir(tmp_path).next_epoch(1.0)
