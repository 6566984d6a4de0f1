"""Whether Go's ``regexp`` accepts a pattern: Traefik compiles those of rules and middlewares.

The syntax is RE2's (https://github.com/google/re2/wiki/Syntax) as Go's ``regexp/syntax`` reads it
with its Perl flags. Python's ``re`` is another language: it knows look-around and
back-references, which Go refuses, and lacks much that Go knows. Nothing is compiled or matched
here. Stricter than Go in three points: groups nest up to 100 deep (1000), the whole stays below
a million steps (three million), and of Unicode's scripts only the common ones can be named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DEEPEST = 100
LARGEST = 1_000_000
MOST_REPEATS = 1000

_CATEGORIES = frozenset(
    {"Any", "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn"}
    | {"N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps"}
    | {"S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs"}
)
_SCRIPTS = frozenset(
    {"Arabic", "Armenian", "Bengali", "Common", "Cyrillic", "Devanagari", "Ethiopic", "Georgian"}
    | {"Greek", "Gujarati", "Gurmukhi", "Han", "Hangul", "Hebrew", "Hiragana", "Inherited"}
    | {"Kannada", "Katakana", "Khmer", "Lao", "Latin", "Malayalam", "Mongolian", "Myanmar"}
    | {"Sinhala", "Tamil", "Telugu", "Thai", "Tibetan"}
)
_POSIX = frozenset(
    {"alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct"}
    | {"space", "upper", "word", "xdigit"}
)
_COUNT = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}")
_UNICODE = re.compile(r"[pP](\{\^?([A-Za-z_]+)\}|([A-Za-z]))")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_HEX = re.compile(r"x([0-9A-Fa-f]{2}|\{([0-9A-Fa-f]+)\})")
_NAMED_GROUP = re.compile(r"\(\?P?<([A-Za-z0-9_]+)>")
_FLAGS = re.compile(r"\(\?([imsU]*)(-[imsU]+)?([:)])")
_POSIX_CLASS = re.compile(r"\[:\^?(.*?):\]", re.DOTALL)


@dataclass(slots=True)
class _Level:
    """One group that is open: what was read in it so far.

    ``repeats`` is the greatest product of nested counts, ``size`` a bound for the compiled
    steps; ``last_*`` the same for what a repetition at this point would repeat.
    """

    operand: bool = False
    repeats: int = 1
    size: int = 0
    last_repeats: int = 1
    last_size: int = 0


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0
    levels: list[_Level] = field(default_factory=lambda: [_Level()])
    names: set[str] = field(default_factory=set)

    def add(self, repeats: int = 1, size: int = 1) -> None:
        level = self.levels[-1]
        level.operand = True
        level.last_repeats, level.last_size = repeats, size
        level.repeats = max(level.repeats, repeats)
        level.size += size
        if level.size > LARGEST:
            raise ValueError("the expression is too large")


def check_regexp(pattern: str) -> None:
    """Refuse what Go's ``regexp.Compile`` would refuse.

    Raises:
        ValueError: with what is wrong.
    """
    reader = _Reader(pattern)
    repeated = False
    while reader.at < len(pattern):
        char = pattern[reader.at]
        was_repeated, repeated = repeated, False
        if char == "(":
            _open(reader)
        elif char == ")":
            _close(reader)
        elif char == "|":
            reader.levels[-1].operand = False
            reader.at += 1
        elif char in "*+?":
            _repeat(reader, char, was_repeated)
            repeated = True
        elif char == "{" and (count := _COUNT.match(pattern, reader.at)):
            _repeat(reader, count[0], was_repeated, _most(count))
            repeated = True
        elif char == "[":
            _class(reader)
        elif char == "\\":
            _escape(reader)
        else:
            reader.at += 1
            reader.add()
    if len(reader.levels) > 1:
        raise ValueError("a closing ) is missing")


def _open(reader: _Reader) -> None:
    if not reader.text.startswith("(?", reader.at):
        reader.at += 1
    elif group := _NAMED_GROUP.match(reader.text, reader.at):
        if group[1] in reader.names:
            raise ValueError(f"two groups are named {group[1]!r}")
        reader.names.add(group[1])
        reader.at = group.end()
    elif flags := _FLAGS.match(reader.text, reader.at):
        reader.at = flags.end()
        if flags[3] == ")":
            return
    else:
        near = reader.text[reader.at : reader.at + 4]
        raise ValueError(f"{near!r} is not in Go's syntax (look-around is not)")
    if len(reader.levels) > DEEPEST:
        raise ValueError(f"groups nest more than {DEEPEST} deep")
    reader.levels.append(_Level())


def _close(reader: _Reader) -> None:
    if len(reader.levels) == 1:
        raise ValueError("a ) has no opening (")
    inner = reader.levels.pop()
    reader.at += 1
    reader.add(inner.repeats, inner.size + 2)


def _most(count: re.Match[str]) -> int:
    least = int(count[1])
    most = int(count[3]) if count[3] else least
    if max(least, most) > MOST_REPEATS or most < least:
        raise ValueError(f"{count[0]!r} is not a usable repeat count")
    return most


def _repeat(reader: _Reader, operator: str, again: bool, most: int = 1) -> None:
    level = reader.levels[-1]
    if not level.operand:
        raise ValueError(f"{operator!r} has nothing to repeat")
    if again:
        raise ValueError(f"{operator!r} stands right behind another repetition")
    reader.at += len(operator)
    if reader.text.startswith("?", reader.at):
        reader.at += 1
    repeats = level.last_repeats * most if most else 1
    if most > 1 and repeats > MOST_REPEATS:
        raise ValueError(f"nested repeat counts multiply to more than {MOST_REPEATS}")
    reader.add(max(repeats, 1), level.last_size * max(most, 1))


def _class(reader: _Reader) -> None:
    reader.at += 1
    if reader.text.startswith("^", reader.at):
        reader.at += 1
    first = True
    while first or not reader.text.startswith("]", reader.at):
        first = False
        if posix := _POSIX_CLASS.match(reader.text, reader.at):
            if posix[1] not in _POSIX:
                raise ValueError(f"{posix[0]!r} is no character class")
            reader.at = posix.end()
        elif not _group_escape(reader):
            low = _class_char(reader)
            text, at = reader.text, reader.at
            if text.startswith("-", at) and len(text) > at + 1 and text[at + 1] != "]":
                reader.at += 1
                if _class_char(reader) < low:
                    raise ValueError(f"the range {text[at - 1 : reader.at]!r} runs backwards")
    reader.at += 1
    reader.add()


def _class_char(reader: _Reader) -> int:
    if reader.at >= len(reader.text):
        raise ValueError("a closing ] is missing")
    if reader.text[reader.at] == "\\":
        return _char_escape(reader)
    reader.at += 1
    return ord(reader.text[reader.at - 1])


def _escape(reader: _Reader) -> None:
    following = reader.text[reader.at + 1 : reader.at + 2]
    if following == "Q":
        literal, _, _ = reader.text[reader.at + 2 :].partition("\\E")
        reader.at = min(len(reader.text), reader.at + 2 + len(literal) + 2)
        for _ in literal:
            reader.add()
    elif following and following in "AbBz":
        reader.at += 2
        reader.add()
    else:
        if not _group_escape(reader):
            _char_escape(reader)
        reader.add()


def _group_escape(reader: _Reader) -> bool:
    r"""Take ``\d``, ``\pL`` and the like; ``False`` when something else stands there."""
    if not reader.text.startswith("\\", reader.at):
        return False
    following = reader.text[reader.at + 1 : reader.at + 2]
    if following and following in "dDsSwW":
        reader.at += 2
        return True
    if following and following in "pP":
        named = _UNICODE.match(reader.text, reader.at + 1)
        name = (named[2] or named[3]) if named else ""
        if named is None or (name not in _CATEGORIES and name not in _SCRIPTS):
            raise ValueError(f"\\{following} names no Unicode category or common script")
        reader.at = named.end()
        return True
    return False


_CONTROL = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}


def _char_escape(reader: _Reader) -> int:
    at = reader.at + 1
    if at >= len(reader.text):
        raise ValueError("it ends with a lone backslash")
    char = reader.text[at]
    value: int | None = None
    end = at + 1
    if char in _CONTROL:
        value = _CONTROL[char]
    elif octal := _OCTAL.match(reader.text, at):
        value, end = int(octal[0], 8), octal.end()
    elif number := _HEX.match(reader.text, at):
        value, end = int(number[2] or number[1], 16), number.end()
        if value > 0x10FFFF:
            value = None
    elif char.isascii() and not char.isalnum():
        value = ord(char)
    if value is None:
        raise ValueError(f"the escape \\{char} is not in Go's syntax")
    reader.at = end
    return value
