"""Settings: command line over environment over file, and every bad value named where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import UsageError
from arvfuse.settings import KEYS, Settings, config_path, default_store, load, parse_seconds, parse_size, parse_value


@pytest.fixture
def home(tmp_path):
    (tmp_path / ".config" / "arvfuse").mkdir(parents=True)
    return tmp_path


def config(home, text):
    (home / ".config" / "arvfuse" / "config.yaml").write_text(text)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1048576", 1 << 20), ("64MiB", 64 << 20), ("1.5 GiB", 3 << 29), ("2k", 2048)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "12 apples"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="write it like"):
        parse_size(text)


def test_seconds():
    assert (parse_seconds("15"), parse_seconds("0.5s")) == (15, 0.5)
    with pytest.raises(UsageError):
        parse_seconds("soon")


def test_the_command_line_wins_over_the_environment_over_the_file(home):
    environment = {"HOME": str(home)}
    assert load({}, environment) == Settings(store=home / ".local/share/arvfuse")
    config(home, "store: /from/file\ncommit-quiet: 2\nread-write: true\nmemory: 512MiB\n")
    assert load({}, environment) == Settings(store=Path("/from/file"), commit_quiet=2, read_write=True, memory=1 << 29)
    environment["ARVFUSE_COMMIT_QUIET"] = "3"
    assert load({}, environment).commit_quiet == 3
    assert load({"commit_quiet": 4.0, "store": None}, environment).commit_quiet == 4
    assert load({"store": Path("relative")}, environment).store == Path.cwd() / "relative"


def test_where_files_are_by_default():
    assert default_store({"HOME": "/h", "XDG_DATA_HOME": "/data"}) == Path("/data/arvfuse")
    assert default_store({"HOME": "/h", "XDG_DATA_HOME": "relative"}) == Path("/h/.local/share/arvfuse")
    assert config_path({"HOME": "/h"}) == Path("/h/.config/arvfuse/config.yaml")
    assert config_path({"ARVFUSE_CONFIG": "/c.yaml"}) == Path("/c.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour: red", "colour: no such option"),
        ("commit_quiet: 1", "commit_quiet: no such option"),
        ("- a list", "not a list of options"),
        ("a: b: c", "cannot be read"),
        ("memory: lots", "memory: 'lots'"),
        ("read-write: perhaps", "neither yes nor no"),
        ("driver: magic", "none of auto"),
        ("memory: 1MiB", "at least 64MiB"),
        ("spool-bytes: 1MiB", "at least 128MiB"),
        ("subtype: a b", "--subtype"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(home, text, complaint):
    config(home, text)
    with pytest.raises(UsageError, match=complaint) as failure:
        load({}, {"HOME": str(home)})
    assert "\n" not in str(failure.value)


def test_a_bad_environment_is_named():
    with pytest.raises(UsageError, match="ARVFUSE_COLOUR: no such option"):
        load({}, {"HOME": "/h", "ARVFUSE_COLOUR": "red"})
    with pytest.raises(UsageError, match="ARVFUSE_MEMORY"):
        load({}, {"HOME": "/h", "ARVFUSE_MEMORY": "red"})
    with pytest.raises(UsageError, match="no such config file"):
        load({}, {"HOME": "/h", "ARVFUSE_CONFIG": "/nothing/here.yaml"})


def test_every_option_has_a_value_from_text():
    values = {
        "store": "/s",
        "logfile": "/l",
        "driver": "auto",
        "latency": "poll",
        "durability": "store",
        "subtype": "x",
    }
    parsed = {}
    for key in KEYS:
        numeric = isinstance(getattr(Settings(store=Path("/s")), key), int | float) and key not in values
        boolean = isinstance(getattr(Settings(store=Path("/s")), key), bool)
        text = values.get(key) or ("yes" if boolean else "1GiB" if key in ("memory", "spool_bytes") else "5")
        assert numeric or key in values
        parsed[key] = parse_value(key, text, "here")
    assert Settings(**parsed).durability == "store"
    assert parsed["memory"] == 1 << 30
