"""Loads the operator's services file: Python that defines :class:`Service` values.

All services that stand at the top level of the file are taken, by themselves or in a list,
tuple or dict, in the order of the file. Names that begin with an underscore are left out, so
that a file can build a service from another without running both. Services that the file
imports from elsewhere count too: the file says what runs.
"""

from __future__ import annotations

import contextlib
import linecache
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from constellation_core.model.explain import explain_validation
from constellation_core.model.service import Service
from constellation_core.model.together import problems_between
from constellation_core.plugins.guard import explain

_MODULE = "__constellation_services__"


@dataclass(frozen=True)
class ServicesError(Exception):
    """A services file that cannot be used.

    Attributes:
        path: the file.
        line: where, or 0 when no line is to blame.
        reason: what is wrong and, where it can be told, how to mend it.
    """

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.reason}"


class StoppedError(BaseException):
    """Raised into a services file to end it; its text becomes the reason."""


def load_services(path: Path) -> tuple[Service, ...]:
    """The services that the file at ``path`` defines, in its order.

    Runs the file in this process: an agent uses :mod:`constellation_core.workloads.reading`.

    Raises:
        ServicesError: when it cannot be read, raises, or defines nothing or one name twice.
    """
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise ServicesError(path, 0, "there is no such file; see [agent] services") from None
    except OSError as error:
        raise ServicesError(path, 0, f"cannot be read: {error.strerror}") from None
    namespace = _execute(path, source)
    services = tuple(_unique(_services(namespace)))
    if not services:
        raise ServicesError(
            path, 0, "it defines no service; for example: web = Service('web', command=['...'])"
        )
    for problem in problems_between(services):
        raise ServicesError(path, 0, problem)
    return services


def _execute(path: Path, source: bytes) -> Mapping[str, Any]:
    # Not imported, but run: no bytecode is written and nothing stays behind, so that the next
    # load sees the file, and the modules beside it, as they are then.
    module = ModuleType(_MODULE)
    module.__file__ = str(path)
    before = set(sys.modules)
    # Classes look for their module by its name, dataclasses while they are made.
    sys.modules[_MODULE] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    write_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except SyntaxError as error:
        where = Path(error.filename or path)
        raise ServicesError(where, error.lineno or 0, f"syntax error: {error.msg}") from None
    except ValidationError as error:
        raise ServicesError(path, _line(path, error), explain_validation(error)) from None
    except StoppedError as error:
        raise ServicesError(path, _line(path, error), str(error)) from None
    except BaseException as error:  # noqa: BLE001 - whatever the file raises
        raise ServicesError(path, _line(path, error), f"it raised {explain(error)}") from None
    finally:
        sys.dont_write_bytecode = write_bytecode
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
        sys.modules.pop(_MODULE, None)
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin is not None and Path(origin).parent == Path(folder):
                del sys.modules[name]
        linecache.checkcache(str(path))
    return module.__dict__


def _services(namespace: Mapping[str, Any]) -> Iterator[Service]:
    for name, value in namespace.items():
        if name.startswith("_"):
            continue
        if isinstance(value, Service):
            yield value
        elif isinstance(value, dict):
            yield from (each for each in value.values() if isinstance(each, Service))
        elif isinstance(value, list | tuple):
            yield from (each for each in value if isinstance(each, Service))


def _unique(services: Iterable[Service]) -> Iterator[Service]:
    """Each object once: a service may have a name of its own and stand in a list too."""
    seen: set[int] = set()
    for each in services:
        if id(each) not in seen:
            seen.add(id(each))
            yield each


def _line(path: Path, error: BaseException) -> int:
    """The last line of the file itself that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno or 0 for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else 0
