"""The command line: every command, and bad ones in one line."""

from __future__ import annotations

import pytest

from arvfuse.cli.parser import Parser, build
from arvfuse.errors import UsageError

COMMANDS = {
    "mount": ["/m"],
    "unmount": ["/m"],
    "status": [],
    "wait": ["/m/x"],
    "put": ["a"],
    "get": ["id", "-"],
    "ls": [],
    "collections": [],
    "recover": [],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(command):
    asked = build().parse_args([command, "--store", "/s", "--json", "--quiet", "--debug", *COMMANDS[command]])
    assert (str(asked.store), asked.json, asked.quiet, asked.debug) == ("/s", True, True, True)
    assert asked.command == command
    assert asked.module.startswith("arvfuse.cli.")


def test_what_is_not_given_is_none_so_that_others_may_say():
    asked = build().parse_args(["mount", "/m"])
    assert (asked.quiet, asked.memory, asked.durability, asked.allow_other) == (None,) * 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["dance"], "dance"),
        (["mount"], "MOUNTPOINT"),
        (["mount", "/m", "--colour"], "--colour"),
        (["unmount", "/m", "--deadline", "soon"], "soon"),
        (["mount", "/m", "--read-w"], "--read-w"),
    ],
)
def test_bad_command_lines_say_what_and_where_to_look(arguments, complaint):
    with pytest.raises(UsageError, match=complaint) as failure:
        build().parse_args(arguments)
    assert "--help`" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_help_and_version_end_well(capsys):
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as end:
            build().parse_args([option])
        assert end.value.code == 0
    assert isinstance(build(), Parser)
    assert "arvfuse" in capsys.readouterr().out


@pytest.mark.parametrize(("columns", "width"), [("60", 58), ("200", 198), ("", 78), ("0", 78), ("x", 78)])
def test_help_is_as_wide_as_the_terminal(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", None)  # no terminal to ask

    text = build().format_help()
    assert max(map(len, text.splitlines())) <= width
    assert (max(map(len, text.splitlines())) > 58) == (width > 58)
