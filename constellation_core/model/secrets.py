"""Secrets, by name. A definition never holds the value of one.

The value is a file under ``[agent] secrets_path`` of the node that runs the instance; the
instance finds it as a file under ``/run/secrets``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import KW_ONLY
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass

from constellation_core.model.strict import STRICT, Variable, Words, matching
from constellation_core.model.volumes import SECRETS_FOLDER

_MODES = (0o400, 0o440, 0o444)

# The refused text is in no message: somebody may have put the value where the name belongs.
SecretName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
        "a secret is named by its file under [agent] secrets_path: 1 to 128 letters, digits, '.', "
        "'_' and '-', beginning with a letter or digit; its value stands nowhere but in that file",
    ),
    Words("name of a file"),
]


def _check_mode(value: int) -> int:
    if value not in _MODES:
        raise ValueError("expected 0o400, 0o440 or 0o444 (octal numbers begin with 0o)")
    return value


@dataclass(frozen=True, config=STRICT)
class Secret:
    """A secret that an instance finds as a file.

    Attributes:
        name: the file under ``[agent] secrets_path`` of the node.
        target: the file's name under ``/run/secrets``; by default the same.
        mode: the file's permissions: ``0o400``, ``0o440`` or ``0o444``. It belongs to the
            service's user.
        path_env: a variable to set to the file's path, for the many programs that take
            ``..._FILE`` in place of the value.
    """

    name: SecretName
    _: KW_ONLY
    target: SecretName | None = None
    mode: Annotated[int, AfterValidator(_check_mode), Words("`0o400`, `0o440` or `0o444`")] = 0o400
    path_env: Variable | None = None

    @property
    def path(self) -> str:
        """Where the instance finds it."""
        return f"{SECRETS_FOLDER}/{self.target or self.name}"


def _as_secret(value: object) -> object:
    # Named by keyword: an error then says which field is wrong.
    return {"name": value} if isinstance(value, str) else value


# Written as a name or as a value, always kept as a value.
if TYPE_CHECKING:
    AnySecret = Secret | str
else:
    AnySecret = Annotated[
        Secret, BeforeValidator(_as_secret), Words("name of a secret, or [`Secret`](#secret)")
    ]


def secret_problems(secrets: Sequence[Secret], env: Collection[str]) -> Iterator[str]:
    """Why an instance cannot have these, beside these variables."""
    paths = [secret.path for secret in secrets]
    for path in dict.fromkeys(paths):
        if paths.count(path) > 1:
            yield f"secrets: two would be the file {path}; give one of them another target="
    variables = [secret.path_env for secret in secrets if secret.path_env is not None]
    for name in dict.fromkeys(variables):
        if variables.count(name) > 1 or name in env:
            yield f"secrets: path_env={name!r} is set twice, once here and once elsewhere"
