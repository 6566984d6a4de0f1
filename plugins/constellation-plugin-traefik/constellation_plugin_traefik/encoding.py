"""JSON that Traefik's YAML reader understands the same way."""

from __future__ import annotations

import re
from typing import Any

import orjson

# JSON allows these bare inside a string; YAML 1.1 refuses them, or takes them for line ends.
_BARE_IN_JSON_ONLY = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_json(value: Any) -> str:
    """``value`` as compact JSON with sorted keys, which is also YAML of the same meaning.

    Raises:
        TypeError: for what JSON cannot carry, such as half a surrogate pair.
    """
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    if text.isascii() and "\x7f" not in text:
        return text
    return _BARE_IN_JSON_ONLY.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
