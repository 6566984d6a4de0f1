"""Lines in files: cut, rotated, read back."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from constellation_plugin_process.logs import MAX_LINE, InstanceLog, LineSplitter


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    def lines(parts: list[bytes]) -> list[str]:
        splitter = LineSplitter()
        found = [line for part in parts for line in splitter.feed(part)]
        return [*found, *splitter.end()]

    assert lines(pieces) == lines([b"".join(pieces)])


@given(st.integers(0, 5 * MAX_LINE))
def test_no_line_is_longer_than_the_limit_and_no_byte_is_lost(length: int) -> None:
    splitter = LineSplitter()
    lines = [*splitter.feed(b"x" * length), *splitter.end()]
    assert sum(map(len, lines)) == length
    assert all(len(line) <= MAX_LINE for line in lines)


async def read(log: InstanceLog, tail: int) -> list[str]:
    return [line.text async for line in log.read(tail, follow=False)]


async def test_the_last_lines_come_from_all_files_in_order(tmp_path: Path) -> None:
    log = InstanceLog(tmp_path / "a.log", max_bytes=200, files=3)
    for number in range(50):
        log.write(1_700_000_000.0 + number, "stdout", [f"line {number}"])
    texts = await read(log, 1000)
    assert texts == [f"line {number}" for number in range(50 - len(texts), 50)]
    assert len(texts) > 5
    assert await read(log, 2) == ["line 48", "line 49"]
    log.close()
    assert [(tmp_path / f"a.log{end}").exists() for end in ("", ".1", ".2", ".3")] == [True] * 3 + [
        False
    ]


async def test_a_damaged_file_gives_the_lines_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = InstanceLog(path, max_bytes=10_000, files=1)
    log.write(1_700_000_000.0, "stderr", ["good"])
    with path.open("ab") as file:
        file.write(b"\xff\xfe\x00 no line of ours\n\n")
    log.write(1_700_000_001.0, "stdout", ["better"])
    assert await read(log, 10) == ["good", "better"]
    log.close()


async def test_a_deleted_folder_loses_lines_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = InstanceLog(folder / "a.log", max_bytes=100, files=1)
    (folder / "a.log").unlink()
    folder.rmdir()
    for _ in range(10):
        log.write(1.0, "stdout", ["x" * 50])
    log.close()


async def test_lines_are_written_again_once_there_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = InstanceLog(folder / "a.log", max_bytes=100, files=2)
    log.write(1.0, "stdout", ["x" * 50])
    (folder / "a.log").unlink()
    folder.rmdir()
    log.write(1.0, "stdout", ["x" * 50] * 5)
    folder.mkdir()
    log.write(1.0, "stdout", ["lost or not", "x" * 50, "kept"])
    assert (await read(log, 1)) == ["kept"]
    log.close()


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()]


async def test_many_lines_at_once_are_kept_in_files_of_the_right_size(tmp_path: Path) -> None:
    log = InstanceLog(tmp_path / "a.log", max_bytes=1_000, files=3)
    log.write(1_700_000_000.0, "stdout", [f"line {number}" for number in range(1_000)])
    texts = await read(log, 1_000)
    assert texts == [f"line {number}" for number in range(1_000 - len(texts), 1_000)]
    assert len(texts) > 30
    assert max(sizes(tmp_path)) <= 1_000
    log.close()
