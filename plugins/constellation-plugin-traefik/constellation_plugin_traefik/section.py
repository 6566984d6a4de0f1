"""One object of the document, such as ``http.routers``, joined anew only when it changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Section:
    """Members ``"name":{...}`` of one JSON object, in the order of their names."""

    def __init__(self) -> None:
        self._members: dict[str, str] = {}
        self._order: list[str] | None = []
        self._text: bytes | None = b""

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def fill(self, groups: Iterable[Mapping[str, str]]) -> None:
        """Put all members of ``groups`` into an empty section."""
        for members in groups:
            if members:
                self._members.update(members)
        self._order = self._text = None

    def replace(self, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        """Put the members ``new`` in the place of those named ``old``."""
        members = self._members
        if not old:
            if new:
                members.update(new)
                self._order = self._text = None
            return
        gone = [name for name in old if name not in new]
        for name in gone:
            del members[name]
            self._text = None
        for name, text in new.items():
            before = members.get(name)
            if before != text:
                members[name] = text
                self._text = None
            if before is None:
                self._order = None
        if gone:
            self._order = None

    def names(self) -> list[str]:
        """The members' names, in order."""
        return sorted(self._members)

    def text(self) -> bytes:
        """All members, with commas between; empty when there are none."""
        if self._order is None:
            self._order = sorted(self._members)
        if self._text is None:
            members = self._members
            self._text = ",".join([members[name] for name in self._order]).encode()
        return self._text
