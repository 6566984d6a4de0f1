"""The operator's services file: what it may hold, and what it says when it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from constellation_core.workloads.loader import ServicesError, load_services

HEAD = "from constellation_core import *\n"


def load(folder: Path, text: str) -> list[str]:
    path = folder / "services.py"
    path.write_text(text)
    return [service.name for service in load_services(path)]


def test_services_stand_by_themselves_in_lists_and_in_dicts(tmp_path: Path) -> None:
    text = HEAD + (
        "_base = Service('base', command=('x',))\n"
        "one = Service('one', command=('x',))\n"
        "more = [Service('two', command=('x',)), one]\n"
        "map = {'a': Service('three', command=('x',)), 'b': 5}\n"
        "other = 'not a service'\n"
    )
    assert load(tmp_path, text) == ["one", "two", "three"]


def test_modules_beside_it_can_be_imported_and_are_read_anew(tmp_path: Path) -> None:
    helper = tmp_path / "helper.py"
    helper.write_text("NAME = 'first'\n")
    text = HEAD + "import helper\nweb = Service(helper.NAME, command=('x',))\n"
    assert load(tmp_path, text) == ["first"]
    helper.write_text("NAME = 'second'\n")
    assert load(tmp_path, text) == ["second"]
    assert "helper" not in sys.modules
    assert str(tmp_path) not in sys.path
    assert not list(tmp_path.glob("__pycache__"))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("web = (\n", 1, "syntax error"),
        (HEAD + "\nweb = Service('web', comand=('x',))\n", 3, "did you mean 'command'"),
        (HEAD + "web = Service('web')\n", 2, "needs image='...' or command="),
        (HEAD + "web = Service('web', command=())\n", 2, "command"),
        (HEAD + "web = Service('web', command=('',))\n", 2, "command is empty"),
        (HEAD + "web = Service('We b', command=('x',))\n", 2, "name"),
        (HEAD + "web = Service('web', command='x')\n", 2, "command"),
        (HEAD + "1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        (HEAD + "raise SystemExit(0)\n", 2, "SystemExit"),
        ("import no_such_module\n", 1, "ModuleNotFoundError"),
        ("x = 1\n", 0, "defines no service"),
        (
            HEAD + "a = Service('web', command=('x',))\nb = Service('web', command=('y',))\n",
            0,
            "two services are named 'web'",
        ),
        (
            HEAD + "a = Service('a', image='x', depends_on=('b',))\n"
            "b = Service('b', image='x', depends_on=('a',))\n",
            0,
            "services wait for each other: ",
        ),
        (
            HEAD + "web = Service('web', image='x', mode='singletn')\n",
            2,
            "Service: mode: expected 'replicated', 'global' or 'singleton'; did you mean",
        ),
        (
            HEAD + "web = Service('web', image='x',\n  volumes=[\n    Bind('/etc', '/a')])\n",
            4,
            "Bind: source: '/etc' is not allowed: a bind is a path below [agent] config_path",
        ),
        (
            HEAD + "web = Service('web', command=('x',), routes=(Route('a.b'),))\n",
            2,
            "service 'web'",
        ),
        (HEAD + "web = Service('web', command=('x',), check=HTTPCheck())\n", 2, "service 'web'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    with pytest.raises(ServicesError) as error:
        load(tmp_path, text)
    assert reason in str(error.value)
    assert error.value.line == line
    assert "services.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_values_of_the_environment_stand_in_no_message(tmp_path: Path) -> None:
    text = HEAD + "web = Service('web', command=('x',), env={'1BAD': 'hunter2'})\n"
    with pytest.raises(ServicesError) as error:
        load(tmp_path, text)
    assert "hunter2" not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ServicesError, match="no such file"):
        load_services(tmp_path / "services.py")
    with pytest.raises(ServicesError, match="directory"):
        load_services(tmp_path)


def test_the_error_is_in_a_module_beside_it(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = (\n")
    with pytest.raises(ServicesError) as error:
        load(tmp_path, "import helper\n")
    assert error.value.path.name == "helper.py"


def test_classes_of_its_own(tmp_path: Path) -> None:
    text = HEAD + (
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Team:\n"
        "    name: str\n"
        "    size: int = 1\n"
        "web = Service(Team('web').name, command=('x',))\n"
    )
    assert load(tmp_path, text) == ["web"]
    # Annotations mean what they mean in any file.
    assert load(tmp_path, text + "assert Team.__annotations__['size'] is int\n") == ["web"]


@pytest.mark.parametrize("field", ["command=('x\\0',)", "command=('x',), env={'A': '\\0'}"])
def test_what_no_program_can_be_given_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(ServicesError, match="zero byte"):
        load(tmp_path, HEAD + f"web = Service('web', {field})\n")
