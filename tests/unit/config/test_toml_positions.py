"""The position scanner, against the standard library's parser."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.config.positions import KeyPath, scan


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, each in value.items():
            yield from paths_of(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from paths_of(each, (*path, index))


def assert_agrees(document: str) -> None:
    """All that the parser finds is placed, and what is placed reads as the parser read it."""
    places = scan(document)
    found = dict(paths_of(tomllib.loads(document)))
    assert places.keys() == found.keys()
    lines = document.replace("\r\n", "\n").split("\n")
    for path, place in places.items():
        rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
        if place.text:
            assert tomllib.loads(f"value = {place.text}")["value"] == found[path]
            assert place.text in rest
        if isinstance(path[-1], int):
            assert rest.startswith(("[", place.text))
        else:
            # Where a key, or the header that opens its table, begins.
            assert rest[0] in "[\"'" or rest[0].isalnum() or rest[0] in "-_"


GAPS = st.sampled_from(["", " ", "  ", "\t"])
BREAKS = st.sampled_from(["", " ", "\n", "\n  # c, ] } \" '\n", "\r\n\t", " # [x]\n"])
BARE = st.text("abAB01-_", min_size=1, max_size=3)
QUOTED = st.one_of(
    st.text("a.=#]'[ ", max_size=4).map(lambda text: f'"{text}"'),
    st.text('a.=#]"[ ', max_size=4).map(lambda text: f"'{text}'"),
    st.sampled_from([r'"\u00e9\""', r'"\\"', '""', "''", '"ключ"']),
)
SCALARS = st.sampled_from(
    [
        *("1", "-0x1F".lstrip("-"), "1_000", "+1.5e-3", "inf", "true", "false"),
        *("1979-05-27", "1979-05-27 07:32:00Z", "07:32:00.5", '"a # b"', "'c ] } , d'"),
        *('"\\""', '"""\na\n"b" "" # ] }\n"""', "'''\n'' ] '\n'''", '"""x"""""', "'''y'''''"),
        *('""""q"""', '"""\\\n  z \\" """', '""', "''", '""""""', "''''''"),
    ]
)


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(values, max_size=3))
    parts = [draw(BREAKS) + item + draw(BREAKS) for item in items]
    tail = draw(st.sampled_from(["", ","])) if items else ""
    return f"[{','.join(parts)}{tail}{draw(BREAKS)}]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = draw(st.lists(BARE, max_size=3, unique=True))
    dotted = draw(st.sampled_from(["", ".x", " . 'y z'"]))
    parts = [f"{draw(GAPS)}{key}{dotted} = {draw(values)}{draw(GAPS)}" for key in keys]
    return f"{{{','.join(parts)}}}"


VALUES = st.recursive(SCALARS, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        key = draw(GAPS).join(
            [*(f"{draw(BARE | QUOTED)}{draw(GAPS)}." for _ in range(draw(st.integers(0, 2))))]
        ) + draw(BARE | QUOTED)
        comment = draw(st.sampled_from(["", " # = [x] \"'"]))
        kind = draw(st.sampled_from(["pair", "pair", "pair", "table", "tables", "blank"]))
        if kind == "pair":
            line = f"{draw(GAPS)}{key}{draw(GAPS)}={draw(GAPS)}{draw(VALUES)}{comment}"
        elif kind == "blank":
            line = comment
        else:
            left, right = ("[", "]") if kind == "table" else ("[[", "]]")
            line = f"{draw(GAPS)}{left}{draw(GAPS)}{key}{draw(GAPS)}{right}{comment}"
        # What clashes with the lines before it is left out: only valid documents are scanned.
        try:
            tomllib.loads("\n".join([*lines, line]))
        except tomllib.TOMLDecodeError:
            continue
        lines.append(line)
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n"]))


@settings(max_examples=300, deadline=None)
@given(documents())
def test_places_agree_with_the_parser(document: str) -> None:
    assert_agrees(document)


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_in_another_way(document: str) -> None:
    try:
        tomllib.loads(document)
    except tomllib.TOMLDecodeError:
        return
    assert_agrees(document)


EXAMPLE = '''\
# a comment with key = 1
top.sub = 1
[t] # [not]
text = """
a = 1
""" # after
"quoted.key" = {a = 1, b.c = [1, {d = 2}]}
list = [
  "x", # c ]
  'y',
]
[[s.z]]
k = 2
[[s.z]]
  k = 3
[s.z.sub]
'''


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("top",), 2, 1),
        (("top", "sub"), 2, 1),
        (("t",), 3, 1),
        (("t", "text"), 4, 1),
        (("t", "quoted.key"), 7, 1),
        (("t", "quoted.key", "a"), 7, 17),
        (("t", "quoted.key", "b", "c", 1, "d"), 7, 35),
        (("t", "list", 1), 10, 3),
        (("s", "z", 0, "k"), 13, 1),
        (("s", "z", 1), 14, 1),
        (("s", "z", 1, "k"), 15, 3),
        (("s", "z", 1, "sub"), 16, 1),
    ],
)
def test_lines_and_columns(path: KeyPath, line: int, column: int) -> None:
    place = scan(EXAMPLE)[path]
    assert (place.line, place.column) == (line, column)


def test_a_long_document_is_scanned_in_linear_time() -> None:
    document = "".join(f"[t{index}]\nkey = ['a', 'b'] # c\n" for index in range(5000))
    assert scan(document)[("t4999", "key", 1)].line == 10_000
