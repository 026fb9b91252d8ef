"""Values at the edges of what an option can say, and the order of the places that say it, through a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.cli.options import settings_of
from arvfuse.cli.parser import build
from arvfuse.errors import UsageError
from arvfuse.settings import MAX_SECONDS, load, parse_seconds, parse_size, parse_value

ENVIRONMENT = {"HOME": "/nowhere"}


def test_sizes_are_exact_and_bounded():
    assert parse_size("9007199254740993") == 9007199254740993
    assert parse_size("0.1GiB") == (1 << 30) // 10
    for text in ("9" * 400, "8388608TiB"):
        with pytest.raises(UsageError, match="more than anything can hold; "):
            parse_size(text)


def test_times_are_bounded():
    assert parse_seconds(str(MAX_SECONDS)) == MAX_SECONDS
    for text in (str(MAX_SECONDS + 1), "9" * 400):
        with pytest.raises(UsageError, match="too long to wait for; "):
            parse_seconds(text)
    for text in ("inf", "nan", "1e3", "-1"):
        with pytest.raises(UsageError, match="not a time"):
            parse_seconds(text)


@pytest.mark.parametrize("key", ["store", "logfile"])
def test_an_empty_path_is_not_the_working_directory(key):
    with pytest.raises(UsageError, match=r"^here: empty; "):
        parse_value(key, "", "here")
    with pytest.raises(UsageError, match=f"ARVFUSE_{key.upper()}: empty; "):
        load({}, {**ENVIRONMENT, f"ARVFUSE_{key.upper()}": ""})


def test_a_store_is_a_directory_or_its_url():
    assert parse_value("store", "file:///a/b", "here") == Path("/a/b")
    assert parse_value("store", "a:b", "here") == Path("a:b")
    for text in ("s3://bucket/prefix", "https://keep.example.org", "file://host/a"):
        with pytest.raises(UsageError, match="name a local directory"):
            parse_value("store", text, "here")


@pytest.mark.parametrize("text", ["store:", "store: [a]", "memory: {a: 1}", "logfile: ~"])
def test_an_option_in_the_file_has_one_value(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"c\.yaml: [a-z]+: one value is wanted; "):
        load({}, {**ENVIRONMENT, "ARVFUSE_CONFIG": str(tmp_path / "c.yaml")})


@pytest.mark.parametrize(
    ("option", "text", "key"),
    [("--memory", "128MiB", "memory"), ("--refresh-time", "7s", "refresh_time"), ("--store", "/a", "store")],
)
def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path, monkeypatch, option, text, key):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    values = {"memory": ("256MiB", "512MiB"), "refresh_time": ("8", "9"), "store": ("/b", "/c")}[key]

    def value(*arguments):
        return getattr(settings_of(build().parse_args(["mount", *arguments, "mnt"])), key)

    default = value()
    (tmp_path / "arvfuse").mkdir()
    (tmp_path / "arvfuse" / "config.yaml").write_text(f"{option.removeprefix('--')}: {values[1]}\n")
    assert value() == parse_value(key, values[1], "") != default
    monkeypatch.setenv(f"ARVFUSE_{key.upper()}", values[0])
    assert value() == parse_value(key, values[0], "")
    assert value(option, text) == value(f"{option}={text}") == parse_value(key, text, "")
