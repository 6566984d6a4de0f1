"""The list of plugins while an agent runs and the settings or the environment change."""

from __future__ import annotations

from typing import Any

from constellation_core.plugins.listing import with_changes


def row(name: str, state: str, reason: str = "") -> dict[str, Any]:
    return {"name": name, "state": state, "reason": reason}


RUNNING = [row("dns", "enabled"), row("bad", "failed", "no luck"), row("metrics", "available")]


def test_without_changes_it_is_what_the_agent_says() -> None:
    rows = with_changes(RUNNING, ["dns", "bad"], [row("dns", "available"), row("bad", "available")])
    assert rows == sorted(RUNNING, key=lambda each: str(each["name"]))


def test_what_was_installed_since_the_start_is_listed() -> None:
    rows = with_changes(RUNNING, ["dns", "bad", "new"], [row("new", "available")])
    (new,) = [each for each in rows if each["name"] == "new"]
    assert new["state"] == "available"
    assert "next start" in new["reason"]


def test_what_was_enabled_or_disabled_since_the_start_says_so() -> None:
    rows = {each["name"]: each for each in with_changes(RUNNING, ["metrics"], [])}
    assert rows["metrics"]["reason"].startswith("enabled in the settings")
    assert rows["dns"]["reason"].startswith("no longer enabled")
    assert rows["bad"]["reason"] == "no luck"
    assert RUNNING[0]["reason"] == ""
