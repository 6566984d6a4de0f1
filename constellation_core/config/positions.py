"""Where every key and value of a TOML document stands.

The standard library's parser tells no positions, and an error without its line is half an
error. This scanner walks over a document *that the parser has accepted already*, so it can
leave all checking to it and only has to find where things begin and end (TOML 1.0.0,
https://toml.io/en/v1.0.0).
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Names of tables and keys from the top, and indexes of array elements."""

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
_STRINGS = (
    # A string of three quotes may end in up to five; the greedy tail takes all of them.
    re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a document.

    Attributes:
        line: of the key (of the header, for a table; of the value, for an array's element),
            counted from 1.
        column: in characters, counted from 1.
        text: the value as it is written; ``""`` for a table that a header opens.
    """

    line: int
    column: int
    text: str = ""


def scan(document: str) -> dict[KeyPath, Place]:
    """Find every table, key and array element of a valid document.

    A table that is opened more than once (by dotted keys, or as part of longer headers) is
    given its first place.

    Raises:
        ValueError: when the document is not valid TOML; what it says is of no use to users.
    """
    return _Scanner(document.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._places: dict[KeyPath, Place] = {}
        self._arrays: dict[KeyPath, int] = {}
        """Number of tables so far in each array of tables."""
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def scan(self) -> dict[KeyPath, Place]:
        table: KeyPath = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_GAP)
        return self._places

    def _header(self) -> KeyPath:
        start = self._at
        of_array = self._text.startswith("[[", start)
        self._at += 2 if of_array else 1
        names = self._dotted_key()
        self._at += 2 if of_array else 1
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._enter((*path, name), start)
        path = (*path, names[-1])
        if not of_array:
            self._note(path, start)
            return path
        self._note(path, start)
        index = self._arrays.get(path, 0)
        self._arrays[path] = index + 1
        path = (*path, index)
        self._note(path, start)
        return path

    def _enter(self, path: KeyPath, start: int) -> KeyPath:
        """The table at ``path``: of an array of tables, the last one."""
        self._note(path, start)
        count = self._arrays.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        names = self._dotted_key()
        path = table
        for name in names[:-1]:
            path = (*path, name)
            self._note(path, start)
        path = (*path, names[-1])
        self._expect("=")
        self._skip(_BLANK)
        # Noted before the value is read, so that places stand in the document's order.
        self._note(path, start)
        begin = self._at
        self._value(path)
        place = self._places[path]
        written = self._text[begin : self._at].rstrip()
        self._places[path] = Place(place.line, place.column, written)

    def _value(self, path: KeyPath) -> None:
        start = self._peek()
        if start == "[":
            self._array(path)
        elif start == "{":
            self._inline_table(path)
        elif start in "\"'":
            self._string()
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._next_element("]"):
            element = (*path, index)
            begin = self._at
            self._note(element, begin)
            self._value(element)
            place = self._places[element]
            written = self._text[begin : self._at].rstrip()
            self._places[element] = Place(place.line, place.column, written)
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._next_element("}"):
            self._pair(path)

    def _next_element(self, closing: str) -> bool:
        """Step to the next element; step over ``closing`` and answer no when there is none."""
        self._skip(_GAP)
        if self._peek() == ",":
            self._at += 1
            self._skip(_GAP)
        if self._peek() == closing:
            self._at += 1
            return False
        return True

    def _dotted_key(self) -> list[str]:
        names = []
        while True:
            self._skip(_BLANK)
            if self._peek() in "\"'":
                # The parser itself undoes the escapes.
                names.append(tomllib.loads(f"key = {self._string()}")["key"])
            else:
                names.append(self._take(_BARE_KEY))
            self._skip(_BLANK)
            if self._peek() != ".":
                return names
            self._at += 1

    def _string(self) -> str:
        for pattern in _STRINGS:
            match = pattern.match(self._text, self._at)
            if match:
                self._at = match.end()
                return match.group()
        raise ValueError("a string does not end")

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise ValueError("the document ends early")
        return self._text[self._at]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise ValueError(f"{character!r} is missing")
        self._at += 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError("unexpected character")
        self._at = match.end()
        return match.group()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _note(self, path: KeyPath, offset: int) -> None:
        """Keep the first place of ``path``; offsets never go back, so lines are counted once."""
        if path in self._places:
            return
        newline = self._text.find("\n", self._counted, offset)
        while newline >= 0:
            self._line += 1
            self._line_start = newline + 1
            newline = self._text.find("\n", newline + 1, offset)
        self._counted = max(self._counted, offset)
        self._places[path] = Place(self._line, offset - self._line_start + 1)
