"""What a new user types first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from arvfuse import __version__
from arvfuse.cli.main import main
from arvfuse.cli.parser import build
from tests.support.programs import environment

COMMANDS = ["mount", "unmount", "status", "wait", "put", "get", "ls", "collections", "recover"]
COMMON = ["--store", "--json", "--quiet", "--debug", "--help", "--version"]


@pytest.mark.parametrize("arguments", [["--version"], *([command, "--version"] for command in COMMANDS)], ids=" ".join)
def test_every_command_says_its_version(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert (end.value.code, capsys.readouterr()) == (0, (f"arvfuse {__version__}\n", ""))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "")
    assert [option for option in COMMON if option not in out] == []
    assert "SUPPRESS" not in out
    assert "--ready-fd" not in out


def test_all_commands_are_in_the_help():
    text = build().format_help()
    assert [command for command in COMMANDS if f"\n    {command}" not in text] == []


def test_messages_of_the_library_are_ours_too(tmp_path):
    """The index of blocks is damaged: that is said, and the command goes on."""
    store = tmp_path / "store"
    (tmp_path / "file").write_bytes(b"x")

    def arvfuse(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "arvfuse", *arguments, "--store", store],
            env=environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert arvfuse("put", "--name", "one", "file").returncode == 0
    (store / "blocks" / "index.sqlite3").write_bytes(b"damaged" * 2000)
    done = arvfuse("ls", "one")
    assert (done.returncode, done.stdout) == (0, "./file\n")
    assert done.stderr.startswith("arvfuse: ")
    assert "block index damaged" in done.stderr
    (store / "blocks" / "index.sqlite3").write_bytes(b"damaged" * 2000)
    assert arvfuse("ls", "--quiet", "one").stderr == ""
