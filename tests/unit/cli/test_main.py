"""Whatever goes wrong is one line and a code, never a traceback; help is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

from arvfuse.cli import records
from arvfuse.cli.main import main
from arvfuse.errors import StoreUnavailable
from tests.support.programs import environment


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARVFUSE_STORE", str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (StoreUnavailable("the store: away; try again"), 5, "arvfuse: the store: away; try again\n"),
        (OSError(28, "No space left", "/tmp/x"), 1, "arvfuse: /tmp/x: No space left; correct that and try again\n"),
        (RuntimeError("odd"), 1, "arvfuse: RuntimeError: odd; this is a bug, --debug shows where\n"),
        (KeyboardInterrupt(), 130, "arvfuse: interrupted\n"),
    ],
)
def test_failures_are_one_line(monkeypatch, capsys, failure, code, line):
    def fail(asked):
        raise failure

    monkeypatch.setattr(records, "collections", fail)
    assert main(["collections"]) == code
    assert capsys.readouterr() == ("", line)


def test_debug_adds_the_traceback(monkeypatch, capsys):
    def fail(asked):
        raise RuntimeError("odd")

    monkeypatch.setattr(records, "collections", fail)
    assert main(["collections", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_usage_is_2(capsys):
    assert main(["dance"]) == 2
    assert capsys.readouterr().err.startswith("arvfuse: ")


def test_help_imports_nothing_that_takes_time(tmp_path):
    code = "import sys; from arvfuse.cli.parser import build; build(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"sqlite3", "yaml", "requests", "llfuse", "xxhash", "arvfuse.settings", "arvfuse.sdk"}


def test_a_reader_that_has_seen_enough_is_no_failure_of_ours(tmp_path):
    command = f"{sys.executable} -m arvfuse collections --help | true"
    done = subprocess.run(["bash", "-c", command], env=environment(tmp_path), capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr
