"""Enabling and disabling plugins: the list changes, and nothing else in the file."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.config import ConfigError, disable_plugin, enable_plugin, initialise
from constellation_core.config.editing import with_enabled

AVAILABLE = ["a", "b", "c", "traefik"]

LAYOUTS = {
    "nothing": "",
    "no table": "# top\n[agent]\nname = 'x' # me\n\n# end\n",
    "no line end": "[agent]\nname = 'x'",
    "empty list": "[plugins]\nenabled = []\n",
    "no list": "[plugins]\n# none yet\n\n[plugins.a]\nk = 1\n",
    "tables only": "[agent]\nname = 'x'\n\n# of a\n[plugins.a] # here\nk = 1\n",
    "tables apart": "[plugins.a] # here\nk = 1\n[agent]\nname = 'x'\n[plugins.b]\nk = 2\n",
    "dotted": "plugins.enabled = ['a']\nplugins.a.k = 1\n[agent]\nname = 'x'\n",
    "dotted tables": "plugins.a.k = 1\n[agent]\nname = 'x'\n",
    "inline": "plugins = {enabled = ['a'], a = {k = 1}} # all\n",
    "inline empty": "plugins = {}\n",
    "quoted": "[\"plugins\"]\n'enabled' = ['a']\n",
    "in rows": "[plugins]\nenabled = [\n  'a', # of a\n  # apart\n  'b', 'c', # two\n] # tail\n",
    "no last comma": "[plugins]\nenabled = [ # all\n  # one\n  'a'\n  # end\n]\nx.y = 1 # y\n",
    "carriage returns": "[plugins]\r\nenabled = [\r\n  'a', # of a\r\n]\r\n[agent]\r\n",
    "separators": "[agent]\nregion = 'x' # \u2028 \x85\n[plugins.a]\nk = '\u2028'\n",
}


def comments(text: str) -> list[str]:
    return re.findall(r"#[^\r\n]*", text)


def without_list(text: str) -> dict[str, object]:
    document = tomllib.loads(text)
    document.setdefault("plugins", {}).pop("enabled", None)
    return document


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_enabling_keeps_all_else(tmp_path: Path, layout: str) -> None:
    text = LAYOUTS[layout]
    path = tmp_path / "agent.toml"
    path.write_bytes(text.encode())
    before = tomllib.loads(text).get("plugins", {}).get("enabled", [])
    done = enable_plugin(path, "traefik", AVAILABLE, {})
    after = path.read_bytes().decode()
    assert done.changed
    assert list(done.enabled) == [*before, "traefik"]
    assert tomllib.loads(after)["plugins"]["enabled"] == [*before, "traefik"]
    assert without_list(after) == without_list(text)
    assert comments(after) == comments(text)
    if "\r\n" in text:
        assert after.count("\r\n") == after.count("\n")

    again = enable_plugin(path, "traefik", AVAILABLE, {})
    assert not again.changed
    assert path.read_bytes().decode() == after

    disable_plugin(path, "traefik", AVAILABLE, {})
    back = path.read_bytes().decode()
    assert tomllib.loads(back)["plugins"]["enabled"] == before
    assert without_list(back) == without_list(text)
    # Behind the name that went, the comment of its line may have gone too.
    assert set(comments(back)) <= set(comments(text))
    assert len(comments(text)) - len(comments(back)) <= (1 if layout == "in rows" else 0)


def test_disabling_takes_its_line_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(LAYOUTS["in rows"] + "[plugins.a]\nk = 1 # kept\n")
    done = disable_plugin(path, "a", AVAILABLE, {})
    assert done.enabled == ("b", "c")
    assert path.read_text() == (
        "[plugins]\nenabled = [\n  # apart\n  'b', 'c', # two\n] # tail\n"
        "[plugins.a]\nk = 1 # kept\n"
    )
    assert not disable_plugin(path, "a", AVAILABLE, {}).changed


NAMES = st.lists(st.sampled_from([f"p{index}" for index in range(6)]), max_size=5, unique=True)
COMMENT = st.sampled_from(["", " # c", " # ], 'p1' [plugins]", "\t#"])
GAP = st.sampled_from(["", "\n", "\n  # between\n", "  "])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A file with a list in some layout, and what it holds."""
    names = draw(NAMES)
    quote = draw(st.sampled_from("'\""))
    rows = draw(st.booleans())
    items = ""
    for index, name in enumerate(names):
        comma = "," if index < len(names) - 1 or draw(st.booleans()) else ""
        tail = f"{draw(COMMENT)}\n" if rows else ""
        before = draw(GAP) if rows else " "
        items += f"{before}{quote}{name}{quote}{comma}{tail}"
    end = draw(st.sampled_from(["", "# end\n"])) if rows else ""
    listed = f"enabled = [{items}{end}]{draw(COMMENT)}\n"
    other = f"[agent]{draw(COMMENT)}\nname = 'x'{draw(COMMENT)}\n"
    table = f"[plugins.p1]{draw(COMMENT)}\nenabled = ['no']{draw(COMMENT)}\n"
    head = draw(st.sampled_from(["", "# head\n\n"]))
    text = draw(
        st.sampled_from(
            [
                f"{head}[plugins]\n{listed}{other}{table}",
                f"{head}{other}[plugins]\n{listed}{table}",
                f"{head}{table}{other}[plugins]\n{listed}",
                f"{head}plugins.{listed}{other}",
            ]
        )
    )
    return text, names


@settings(deadline=None)
@given(files(), st.sampled_from([f"p{index}" for index in range(6)]))
def test_any_layout_keeps_its_comments_and_keys(file: tuple[str, list[str]], name: str) -> None:
    text, names = file
    if name in names:
        wanted = [each for each in names if each != name]
        changed = with_enabled(text, wanted)
        # The comment behind the name that goes may go with it.
        lost = len(comments(text)) - len(comments(changed))
        assert 0 <= lost <= 1
    else:
        wanted = [*names, name]
        changed = with_enabled(text, wanted)
        assert comments(changed) == comments(text)
    assert tomllib.loads(changed)["plugins"]["enabled"] == wanted
    assert without_list(changed) == without_list(text)


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[plugins]\nenabled = ['traefik', 'gone']\n")
    before = path.stat()
    with pytest.raises(ConfigError, match="no plugin 'trafik' is installed; did you mean 'traef"):
        enable_plugin(path, "trafik", AVAILABLE, {})
    with pytest.raises(ConfigError, match="installed are a, b, c, traefik"):
        enable_plugin(path, "zzz", AVAILABLE, {})
    with pytest.raises(ConfigError, match="installed are none"):
        enable_plugin(path, "zzz", [], {})
    with pytest.raises(ConfigError, match="no plugin 'trafik' is enabled; did you mean 'traef"):
        disable_plugin(path, "trafik", AVAILABLE, {})
    assert path.stat().st_ino == before.st_ino
    # One that was uninstalled can still be taken out.
    assert disable_plugin(path, "gone", AVAILABLE, {}).enabled == ("traefik",)


def test_a_variable_that_overrides_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    done = enable_plugin(path, "a", AVAILABLE, {"CONSTELLATION_PLUGINS_ENABLED": "b"})
    assert done.overridden_by == "$CONSTELLATION_PLUGINS_ENABLED"


@pytest.mark.parametrize("text", ["[plugins]\nenabled = 'a'\n", "\nplugins = 1\n"])
def test_a_list_that_is_none_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"agent\.toml:2: \[plugins\] enabled: expected a list"):
        enable_plugin(path, "a", AVAILABLE, {})


def test_broken_toml_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[plugins\n")
    with pytest.raises(ConfigError, match=r"agent\.toml:1: is not valid TOML"):
        enable_plugin(path, "a", AVAILABLE, {})


def test_mode_owner_and_links_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "agent.toml"
    real.write_text("# kept\n")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12_345, 12_346)
    link.symlink_to(real)
    before = real.stat()
    assert enable_plugin(link, "a", AVAILABLE, {}).changed
    after = real.stat()
    assert link.is_symlink()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml", "real.toml"]


def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("# kept\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left"):
        enable_plugin(path, "a", AVAILABLE, {})
    assert path.read_text() == "# kept\n"
    assert [each.name for each in tmp_path.iterdir()] == ["agent.toml"]


def test_the_file_of_init_can_be_edited(tmp_path: Path) -> None:
    path = initialise(tmp_path).config
    before = path.read_text()
    enable_plugin(path, "traefik", AVAILABLE, {})
    assert path.read_text() == before.replace("enabled = []", 'enabled = ["traefik"]')
