"""Writes docs/services.md from the definitions' types and docstrings.

Run it after a change of a definition; a test fails while the file is out of date::

    .venv/bin/python scripts/generate_services_docs.py [--check]
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
from generated import write_or_check
from pydantic.fields import FieldInfo

from constellation_core.model.definitions import DEFINITIONS
from constellation_core.model.effects import IN_PLACE, RECREATES
from constellation_core.model.strict import Words
from constellation_core.model.words import listed

HEAD = """\
# Services

<!-- Written by scripts/generate_services_docs.py from the definitions. Change those. -->

A service is a Python value. This is all that it can say; what is left out has its default.

```python
from constellation_core import HTTPCheck, Port, Route, Service

web = Service(
    "web",
    image="nginx:1.29",
    ports=(Port("http", 80),),
    networks=("publicnet",),
    routes=(Route(host="www.{{domain}}"),),
    check=HTTPCheck("/health", interval=5),
    replicas=2,
)
```

[`examples/site`](../examples/site/README.md) is a small site: web, API, worker and PostgreSQL.

## The services file

The file is Python. All services at its top level are taken, by themselves or in a list, tuple or
dict; names that begin with `_` are left out. It is run in a process of its own, with a time limit,
and what comes back is data: what travels between nodes is never code.

`[agent] services` names the file of one node's own services. **Today that is all that runs:** the
agent starts one instance of each service in it on that node, and `replicas`, `mode`, `placement`,
`update`, `depends_on` and `when_isolated` have no effect yet. The runtime driver `process` runs
services that have a `command` alone; what only a container can be given, it refuses with the
reason. A driver for containers is to come.

## Mistakes

A definition is checked when it is made. The error names the file and the line, the field, what
is wrong and what would be right:

```
services.py:3: Service: mode: expected 'replicated', 'global' or 'singleton'; did you mean 'global'?
```

No value stands in an error unless it is the name of something: a value may be a secret.

## As data

What is stored and sent is a definition's canonical form: JSON with sorted keys and without what has
its default, so that equal definitions have the same bytes. It carries the number of its schema. An
agent that finds a field it does not know refuses the definition and says that it has to be
upgraded: to leave out what it does not understand could be to leave out a limit.

The hash of that form decides what a new definition does to the instances that run. A change of
these fields makes new instances: {recreates}.

A change of these does not, since not the instance but its agent, the deployment or the proxy acts
upon them: {in_place}.

## Secrets

A definition names secrets and never holds one. The value is a file under `[agent] secrets_path` of
each node that runs the service, readable by its owner only; the instance finds it under
`/run/secrets`. `env`, the `headers` of a check and the `options` of a log driver are part of the
definition, and so are stored and shown to operators: no secret belongs there.

"""


def render() -> str:
    """The whole document."""
    head = HEAD.format(recreates=_coded(RECREATES), in_place=_coded(IN_PLACE))
    sections = ("\n".join(section(name, kind)) for name, kind in DEFINITIONS.items())
    return head + "\n\n".join(sections) + "\n"


def section(name: str, kind: type) -> Iterator[str]:
    """One definition: what it is, and each of its fields."""
    summary, words = documented(kind)
    yield f"## `{name}`"
    yield ""
    yield summary
    yield ""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    hints = get_type_hints(kind, include_extras=True)
    own = [each for each in fields(kind) if each.name != "kind"]
    # Those that may be given without a name come first, in their order.
    for field in sorted(own, key=lambda each: each.kw_only):
        told = (type_in_words(hints[field.name]), default_in_words(field), words[field.name])
        cells = " | ".join(each.replace("|", "\\|") for each in told)
        yield f"| `{field.name}` | {cells} |"


def documented(kind: type) -> tuple[str, dict[str, str]]:
    """What the docstring says of the type, and of each field, also of inherited ones.

    Raises:
        KeyError: by who asks for a field that no docstring explains.
    """
    words: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            words |= _attributes(inspect.getdoc(base) or "")
    summary = (inspect.getdoc(kind) or "").partition("\nAttributes:")[0]
    return _markdown(summary.partition("\nRaises:")[0].strip()), words


def _attributes(text: str) -> dict[str, str]:
    block = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for line in block.splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        else:
            found[name] += " " + line.strip()
    return {name: _markdown(text) for name, text in found.items()}


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def default_in_words(field: Field[Any]) -> str:
    """The default as it would be written."""
    if field.default is MISSING and field.default_factory is MISSING:
        return "must be given"
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is None or default == () or default == {}:
        return "none"
    if isinstance(default, tuple) and isinstance(default[0], str):
        return f"`({', '.join(map(json.dumps, default))},)`"
    if is_dataclass(default):
        name = type(default).__name__
        return f"[`{name}()`](#{name.lower()})"
    if field.name == "mode" and isinstance(default, int):
        return f"`{default:#o}`"
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{default!r}`"


def type_in_words(hint: Any) -> str:
    """A type and its bounds, for people."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        named = [each.text for each in inner[1:] if isinstance(each, Words)]
        bounds = [text for each in inner[1:] for text in _bounds(each)]
        return ", ".join([named[-1] if named else type_in_words(inner[0]), *bounds])
    if origin in (Union, UnionType):
        return listed(dict.fromkeys(type_in_words(each) for each in inner if each is not NoneType))
    if origin is Literal:
        return listed(f'`"{each}"`' for each in inner)
    if origin is tuple:
        return f"list of: {type_in_words(inner[0])}"
    if origin is dict:
        return f"table: {' to '.join(type_in_words(each) for each in inner)}"
    if is_dataclass(hint):
        name = getattr(hint, "__name__", "")
        return f"[`{name}`](#{name.lower()})"
    return {bool: "`True` or `False`", float: "number", int: "whole number", str: "text"}[hint]


def _bounds(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, FieldInfo):
        for each in annotation.metadata:
            yield from _bounds(each)
    elif isinstance(annotation, annotated_types.Ge):
        yield f"at least {annotation.ge}"
    elif isinstance(annotation, annotated_types.Gt):
        yield f"more than {annotation.gt}"
    elif isinstance(annotation, annotated_types.Le):
        yield f"at most {annotation.le}"
    elif isinstance(annotation, annotated_types.MinLen) and annotation.min_length == 1:
        yield "not empty"
    elif isinstance(annotation, annotated_types.MaxLen):
        yield f"at most {annotation.max_length}"


def _coded(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    sys.exit(write_or_check(sys.argv[1:], "generate_services_docs.py", "services.md", render()))
