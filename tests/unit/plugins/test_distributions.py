"""Entry points read from the files of installed distributions."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from constellation_core.plugins.distributions import (
    COMMANDS,
    PLUGINS,
    Offer,
    find_offers,
    requirement_on,
)

POINTS = (
    f"[console_scripts]\nx = a:b\n\n[{PLUGINS}]\nhello = hello_plugin:Hello [extra]\n# no = x\n"
)
METADATA = (
    "Metadata-Version: 2.3\nName: Hello-Plugin\nVersion: 1.2\nSummary: Says hello\n"
    "Requires-Dist: constellation-core<0.2,>=0.1\nRequires-Dist: rich\n\nName: not-a-header\n"
)


def install(folder: Path, name: str, points: str = POINTS, metadata: str = METADATA) -> Path:
    info = folder / name
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(points)
    (info / "METADATA").write_text(metadata)
    return info


def test_an_offer_says_what_its_distribution_says(tmp_path: Path) -> None:
    install(tmp_path, "hello_plugin-1.2.dist-info")
    assert find_offers(PLUGINS, path=[str(tmp_path)]) == [
        Offer(
            PLUGINS,
            "hello",
            "hello_plugin:Hello",
            "Hello-Plugin",
            "1.2",
            "Says hello",
            ("constellation-core<0.2,>=0.1", "rich"),
        )
    ]


def test_the_first_of_two_on_the_path_counts(tmp_path: Path) -> None:
    install(tmp_path / "a", "hello_plugin-1.2.dist-info")
    newer = METADATA.replace("1.2", "9.9")
    install(tmp_path / "b", "hello_plugin-9.9.dist-info", metadata=newer)
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [each.version for each in find_offers(PLUGINS, path=folders)] == ["1.2"]
    assert [each.version for each in find_offers(PLUGINS, path=folders[::-1])] == ["9.9"]


@pytest.mark.parametrize(
    ("points", "metadata"),
    [
        ("", METADATA),
        (f"[{PLUGINS}]\n", METADATA),
        (f"[{PLUGINS}]\nno equals sign\n[other]\nx = y\n", METADATA),
        ("\x00\xff", METADATA),
        (f"[{PLUGINS}x]\nhello = a:b\n", METADATA),
    ],
)
def test_what_offers_nothing_is_left_out(tmp_path: Path, points: str, metadata: str) -> None:
    install(tmp_path, "x-1.dist-info", points, metadata)
    assert find_offers(PLUGINS, path=[str(tmp_path), str(tmp_path / "no-such-folder")]) == []


def test_an_offer_without_metadata_has_a_name_all_the_same(tmp_path: Path) -> None:
    install(tmp_path, "x-1.dist-info", metadata="")
    (offer,) = find_offers(PLUGINS, path=[str(tmp_path)])
    assert (offer.name, offer.version) == ("hello", "")


def test_an_unreadable_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.dist-info").write_text("a file where a folder should be")
    assert find_offers(PLUGINS, path=[str(tmp_path)]) == []


def test_it_finds_what_importlib_finds() -> None:
    for group in (PLUGINS, COMMANDS):
        theirs = {(each.name, each.value) for each in importlib.metadata.entry_points(group=group)}
        assert {(each.name, each.target) for each in find_offers(group)} == theirs
    assert find_offers(PLUGINS)


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        (["constellation-core>=0.1,<0.2"], ">=0.1,<0.2"),
        (["Constellation_Core (>=1)"], ">=1"),
        (["constellation.core ; python_version > '3'"], ""),
        (["constellation-core-extras>=5", "rich"], ""),
        ([], ""),
    ],
)
def test_the_core_that_is_required(requires: list[str], expected: str) -> None:
    assert requirement_on("constellation-core", requires) == expected
