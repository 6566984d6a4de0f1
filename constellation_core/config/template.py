"""The text of a new agent.toml: every setting with its meaning, only the needed ones active."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from constellation_core.config.annotations import alias_variable, extra, keys_of
from constellation_core.config.settings import SECTIONS

_HEAD = """\
# Settings of a Constellation agent.
#
# Lines that begin with '#' and a key show the default (or, after 'e.g.', an example); take the
# '#' away to change them. Every setting can also come from the environment, which then wins:
# bind in [gossip] is $CONSTELLATION_GOSSIP_BIND. Relative paths are relative to this file's
# folder. Check this file with: constellation config check
"""

_PLUGIN_TABLES = """\
# Each plugin has a table of its own: [plugins.NAME]. The keys of a plugin are listed by
# constellation config show, once it is enabled.
"""


def render(active: Mapping[tuple[str, str], Any]) -> str:
    """The file's text.

    Args:
        active: by section and key, the values that are set; all others are commented out.
    """
    blocks = [_HEAD]
    for section, model in SECTIONS.items():
        doc = " ".join((model.__doc__ or "").split())
        lines = [*_comment(doc), f"[{section}]"]
        for key, field in keys_of(model).items():
            lines += ["", *_comment(_meaning(field)), _setting(section, key, field, active)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join([*blocks, _PLUGIN_TABLES])


def default_of(field: FieldInfo) -> Any:
    """The field's default as TOML would hold it; ``None`` where it has none or computes it."""
    default = field.default
    if default is PydanticUndefined or default is None:
        return None
    if isinstance(default, tuple):
        return [str(each) for each in default]
    return default if isinstance(default, bool | int | float | str) else str(default)


def toml_value(value: Any) -> str:
    """A value in TOML; strings, numbers, booleans and lists of them."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    # JSON's escapes are TOML's too, but for the delete character, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")


def _meaning(field: FieldInfo) -> str:
    alias = alias_variable(field)
    hint = f" Without it, ${alias} is taken, where that is set." if alias else ""
    return f"{field.description}{hint}"


def _setting(
    section: str, key: str, field: FieldInfo, active: Mapping[tuple[str, str], Any]
) -> str:
    if (section, key) in active:
        return f"{key} = {toml_value(active[section, key])}"
    example = extra(field).get("example")
    default = default_of(field)
    if example is not None:
        return f"# e.g. {key} = {toml_value(example)}"
    return f"# {key} = {toml_value(default)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, 95, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
