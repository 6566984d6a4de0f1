"""Writes docs/configuration.md from the settings' models.

Run it after a change of a setting; a test fails while the file is out of date::

    .venv/bin/python scripts/generate_configuration_docs.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from generated import ROOT, write_or_check
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from constellation_core.config.addresses import Address
from constellation_core.config.annotations import (
    alias_variable,
    extra,
    holds_secret,
    is_list,
    keys_of,
    members,
    nested_fields,
)
from constellation_core.config.environment import OTHER_VARIABLES, variable_of
from constellation_core.config.settings import SECTIONS
from constellation_core.config.template import default_of, toml_value
from constellation_core.plugins.discovery import installed_plugins
from constellation_core.plugins.manager import PluginManager

HEAD = """\
# Configuration

<!-- Written by scripts/generate_configuration_docs.py from the settings' models. Change those. -->

The settings of an agent stand in `agent.toml`. `constellation init` writes one in which every
setting is explained, together with the cluster key. `constellation config check` checks it,
`constellation config show` prints every value in force and where it came from.

## Where the file is looked for

The first of these is taken:

1. the file that `--config` names;
2. the file that `$CONSTELLATION_CONFIG` names;
3. `agent.toml` in the working directory;
4. `/etc/constellation/agent.toml`.

## Which value wins

For every setting, the first of these that is there:

1. its own variable, `$CONSTELLATION_<SECTION>_<KEY>`;
2. `agent.toml`;
3. where the tables below name a *fallback* variable: that variable, unless it is empty;
4. the default.

A fallback such as `$DOMAIN` is a name that other programs use too, so it never overrides what
the file says.

In a variable, lists are separated by commas (an empty text is an empty list), `true`, `yes`,
`on`, `1` and `false`, `no`, `off`, `0` are the two truth values, and what is a table in
`agent.toml` is written as an inline table in TOML. A variable that begins with `CONSTELLATION_`
and belongs to no setting is an error, so that a misspelt one does not go unnoticed; only one for
a plugin that is not enabled is no more than a warning. {others} are no settings and are allowed.

Relative paths are relative to the folder of `agent.toml`, also when they come from a variable,
unless their description says otherwise. `~` is the home folder.

## Mistakes

All mistakes are reported at once, each with its file, line and key, what was expected, and the
nearest name that is known:

```
agent.toml:12: [gossip] bnid: unknown key; did you mean 'bind'?
```

## Secrets

Secrets stand in files, never in `agent.toml`. A file that group or others have any right to is
refused, with the `chmod` that mends it; so is one that belongs to neither the agent's user nor
root. Links are followed, and the file that they lead to is checked. A secret may have up to
64 KiB.

The cluster key is such a file: 32 bytes, as base64. The keys that protect gossip and the other
parts are derived from it (HKDF-SHA256). Its fingerprint, which is safe to show, tells whether
two nodes have the same.
"""

PLUGINS = """\
Each plugin has a table of its own, `[plugins.NAME]`, which its own model checks. Every field of
it can come from `$CONSTELLATION_PLUGINS_<PLUGIN>_<FIELD>`; in the plugin's name, `-` becomes `_`.
The table of a plugin that is not enabled is kept and has no effect.
"""


def render() -> str:
    """The whole document."""
    others = " and ".join(f"`${name}`" for name in sorted(OTHER_VARIABLES))
    blocks = [HEAD.format(others=others)]
    for name, model in SECTIONS.items():
        blocks.append("\n".join(section(name, model)))
    blocks.append(PLUGINS)
    for plugin, model in plugin_models().items():
        blocks.append("\n".join(section(f"plugins.{plugin}", model)))
    return "\n".join(blocks)


def section(name: str, model: type[BaseModel]) -> Iterator[str]:
    """One table of agent.toml: what it is about, and each of its keys."""
    yield f"## `[{name}]`"
    yield ""
    yield " ".join((model.__doc__ or "").split())
    yield ""
    for key, field in keys_of(model).items():
        yield f"### `{name}.{key}`"
        yield ""
        yield field.description or ""
        yield ""
        yield f"- Type: {type_in_words(field)}"
        yield f"- Default: {default_in_words(field)}"
        yield f"- Variable: `${variable_of(name, key)}`"
        if alias := alias_variable(field):
            yield f"- Fallback: `${alias}`"
        if example := extra(field).get("example"):
            yield f"- Example: `{key} = {toml_value(example)}`"
        yield ""


def default_in_words(field: FieldInfo) -> str:
    """The default as it would be written."""
    if field.is_required():
        return "none; it must be set"
    default = default_of(field)
    if default is None:
        computed = field.default is PydanticUndefined
        return "computed, see above" if computed else "not set"
    if holds_secret(field.annotation):
        return "not shown"
    return f"`{toml_value(default)}`"


def type_in_words(field: FieldInfo) -> str:
    """The type and its bounds, for people."""
    words = " or ".join(dict.fromkeys(kind_in_words(kind) for kind in members(field.annotation)))
    bounds = []
    for each in field.metadata:
        if isinstance(each, annotated_types.Ge):
            bounds.append(f"at least {each.ge}")
        elif isinstance(each, annotated_types.Gt):
            bounds.append(f"greater than {each.gt}")
        elif isinstance(each, annotated_types.Le):
            bounds.append(f"at most {each.le}")
        elif isinstance(each, annotated_types.Lt):
            bounds.append(f"less than {each.lt}")
    return ", ".join([words, *bounds])


def kind_in_words(kind: Any) -> str:
    """One type, for people."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{toml_value(value)}`" for value in get_args(kind))
    if is_list(kind):
        items = [each for each in get_args(kind) if each is not Ellipsis]
        inner = " or ".join(kind_in_words(member) for each in items for member in members(each))
        return f"list of: {inner}" if inner else "list"
    names = {
        Address: "string `HOST:PORT`",
        bool: "`true` or `false`",
        float: "number",
        int: "integer",
        Path: "path (string)",
        str: "string",
    }
    if kind in names:
        return names[kind]
    if holds_secret(kind):
        return "string, secret"
    if nested_fields(kind) is not None or get_origin(kind) is dict or kind is dict:
        return "table"
    return f"`{getattr(kind, '__name__', kind)}`"


def plugin_models() -> dict[str, type[BaseModel]]:
    """Config models of the plugins in this repository, by plugin.

    One that cannot be loaded is named on standard error and left out: where it had settings,
    the document is out of date then, and the test says so.
    """
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")}
    installed = [plugin for plugin in installed_plugins() if plugin.distribution in folders]
    manager = PluginManager()
    manager.load([plugin.name for plugin in installed], installed)
    models = {name: manager.contribute(name, "config_model") for name in manager.active}
    return {name: model for name, model in sorted(models.items()) if model is not None}


if __name__ == "__main__":
    sys.exit(
        write_or_check(sys.argv[1:], "generate_configuration_docs.py", "configuration.md", render())
    )
