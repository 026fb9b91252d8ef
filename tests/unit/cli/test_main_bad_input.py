"""Bad input that needs no mount: one line ``arvfuse: WHAT: WHY; DO``, the code of the contract, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import sys

import pytest

from arvfuse.cli import exits
from arvfuse.cli.main import main
from arvfuse.session import open as open_session
from tests.support.restricted import run_restricted

LINE = re.compile(rb"arvfuse: [^\n]+: [^\n]+; [^\n]+\n")
USAGE_LINE = re.compile(rb"arvfuse: [^\n]+; see `arvfuse[a-z ]* --help`\n")
UUID = "zzzzz-4zz18-012345678901234"
PDH = "0123456789abcdef0123456789abcdef+77"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store with collection ``one``: t/f, t/d/g and the empty directory t/empty; project ``p``."""
    directory = tmp_path_factory.mktemp("template")
    with open_session(directory) as session:
        collection = session.new("one")
        for path, text in (("t/f", "foo"), ("t/d/g", "bar")):
            with collection.open(path, "w") as file:
                file.write(text)
        collection.mkdirs("t/empty")
        collection.save()
        session.catalog.create_project(name="p")
    return directory


@pytest.fixture
def store(template, tmp_path):
    return shutil.copytree(template, tmp_path / "store")


@pytest.fixture
def place(store, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("ARVFUSE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("ARVFUSE_STORE", str(store))
    work = tmp_path / "work"
    (work / "mnt").mkdir(parents=True)
    (work / "full").mkdir()
    (work / "file").write_bytes(b"old")
    (work / "full" / "file").write_bytes(b"old")
    (work / "dangling").symlink_to("nowhere")
    (work / "circle").mkdir()
    (work / "circle" / "round").symlink_to(".")
    os.mkfifo(work / "pipe")
    monkeypatch.chdir(work)
    return work


def check_refused(capfdbinary, arguments, code, line=LINE):
    found = main([os.fspath(argument) for argument in arguments])
    out, err = capfdbinary.readouterr()
    assert (found, out) == (code, b""), err
    assert line.fullmatch(err), err
    assert b"Traceback" not in err
    assert b"this is a bug" not in err
    return err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["put"],
        ["get", "one"],
        ["ls", "--frobnicate"],
        ["put", "--nam", "x", "file"],
        ["unmount", "--deadline", "soon", "mnt"],
        ["mount"],
        ["mount", "mnt", "--driver"],
    ],
)
def test_the_command_line_itself(place, capfdbinary, arguments):
    check_refused(capfdbinary, arguments, exits.USAGE, USAGE_LINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["mount", "--read-only", "--read-write", "mnt"],
        ["mount", "--driver", "floppy", "mnt"],
        ["mount", "--durability", "none", "mnt"],
        ["mount", "--memory", "lots", "mnt"],
        ["mount", "--memory", "-1", "mnt"],
        ["mount", "--memory", "1MiB", "mnt"],
        ["mount", "--memory", "9" * 400, "mnt"],
        ["mount", "--spool-bytes", "1", "mnt"],
        ["mount", "--spool-bytes", "1..5GiB", "mnt"],
        ["mount", "--commit-quiet", "soon", "mnt"],
        ["mount", "--commit-deadline=-1", "mnt"],
        ["mount", "--refresh-time", "inf", "mnt"],
        ["mount", "--stall-bound", "nan", "mnt"],
        ["mount", "--stall-bound", "9" * 30, "mnt"],
        ["mount", "--subtype", "a b", "mnt"],
        ["mount", "--subtype", "", "mnt"],
        ["mount", "--logfile", "", "mnt"],
        ["unmount", "--deadline=-1", "mnt"],
        ["unmount", "--deadline", "nan", "mnt"],
        ["unmount", "--deadline", "inf", "mnt"],
        ["ls", "--store", ""],
        ["ls", "--store", "s3://bucket"],
        ["put", "--name", "", "file"],
        ["put", "--name", "a/b", "file"],
        ["put", "--name", "..", "file"],
        ["put", "--name", "n" * 300, "file"],
        ["put", ""],
        ["ls", ""],
        ["ls", "//"],
        ["get", "one", ""],
        ["get", "one/t", "file"],
    ],
)
def test_values_that_mean_nothing(place, capfdbinary, arguments):
    check_refused(capfdbinary, arguments, exits.USAGE)
    assert sorted(os.listdir(place)) == ["circle", "dangling", "file", "full", "mnt", "pipe"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "nothing"],
        ["ls", "home/nothing"],
        ["ls", UUID],
        ["ls", PDH],
        ["ls", f"{UUID}/t"],
        ["ls", "one/nothing"],
        ["ls", "one/t/f/below"],
        ["ls", "one/../one"],
        ["ls", "one@7"],
        ["ls", "one@x"],
        ["ls", "one@\N{SUPERSCRIPT TWO}"],
        ["ls", "one@" + "9" * 30],
        ["ls", "p"],
        ["ls", "p/nothing"],
        ["ls", os.fsdecode(b"caf\xe9")],
        ["get", os.fsdecode(b"one/caf\xe9"), "out"],
        ["get", "nothing", "out"],
        ["get", "one/t/f", "nowhere/f"],
        ["get", "one/t/f", "nowhere/"],
        ["put", "nothing"],
        ["put", "file/"],
        ["put", "dangling"],
        ["put", "--project", "nothing", "file"],
        ["put", "--project", "zzzzz-j7d0g-012345678901234", "file"],
        ["mount", "nowhere"],
        ["mount", "--store", "nowhere", "mnt"],
        ["unmount", "mnt"],
        ["unmount", "nowhere"],
        ["status", "mnt"],
        ["wait", "mnt"],
        ["ls", "--store", "nowhere"],
        ["collections", "--store", "nowhere"],
        ["recover", "--store", "nowhere"],
        ["get", "one", "out", "--store", "nowhere"],
    ],
)
def test_what_is_not_there(place, capfdbinary, arguments):
    check_refused(capfdbinary, arguments, exits.MISSING)
    assert sorted(os.listdir(place)) == ["circle", "dangling", "file", "full", "mnt", "pipe"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["mount", "full"], exits.BUSY),
        (["mount", "file"], exits.FAILED),
        (["unmount", "/proc"], exits.USAGE),
        (["put", "--name", "one", "file"], exits.BUSY),
        (["put", "file", "full/file"], exits.BUSY),
        (["put", "--name", os.fsdecode(b"caf\xe9"), "file"], exits.FAILED),
        (["put", "pipe"], exits.FAILED),
        (["put", "circle"], exits.FAILED),
        (["get", "one/t/f", "file"], exits.BUSY),
        (["get", "one/t/f", "dangling"], exits.BUSY),
        (["get", "one/t", "-"], exits.FAILED),
        (["ls", "--store", "file"], exits.FAILED),
        (["put", "--store", "file", "full"], exits.FAILED),
        (["put", "--store", "file/store", "full"], exits.FAILED),
        (["mount", "--read-write", "--store", "file", "mnt"], exits.FAILED),
        (["mount", "--read-write", "--store", "file/store", "mnt"], exits.FAILED),
    ],
)
def test_what_is_in_the_way(place, capfdbinary, arguments, code):
    check_refused(capfdbinary, arguments, code)
    assert (place / "file").read_bytes() == b"old"
    assert not (place / "nowhere").exists()


COMMANDS = [
    ["ls"],
    ["ls", "one"],
    ["put", "file"],
    ["get", "one", "out"],
    ["collections"],
    ["recover"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_damaged_catalog(place, store, capfdbinary, arguments):
    (store / "catalog.sqlite3").write_bytes(b"not a catalog" * 1000)
    assert b"catalog.sqlite3" in check_refused(capfdbinary, arguments, exits.DAMAGED)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_catalog_of_a_newer_version(place, store, capfdbinary, arguments):
    catalog = sqlite3.connect(store / "catalog.sqlite3")
    catalog.execute("PRAGMA user_version = 99")
    catalog.close()
    assert b"update arvfuse" in check_refused(capfdbinary, arguments, exits.FAILED)


@pytest.mark.parametrize("arguments", [["ls"], ["get", "one", "out"], ["collections"]], ids=" ".join)
def test_a_catalog_that_is_not_there(place, store, capfdbinary, arguments):
    (store / "catalog.sqlite3").unlink()
    check_refused(capfdbinary, arguments, exits.UNREACHABLE)


@pytest.mark.parametrize("damage", [None, b"nothing like it"])
def test_a_block_that_is_lost_or_damaged(place, store, capfdbinary, damage):
    for block in (store / "blocks").glob("???/*"):
        size = block.stat().st_size
        block.unlink()
        if damage is not None:
            block.write_bytes(damage[:size])
    check_refused(capfdbinary, ["get", "one", "out"], exits.DAMAGED)
    assert [path.name for path in place.glob("out/**/*") if path.is_file()] == []


def test_nothing_of_a_file_is_overwritten_without_force(place, capfdbinary):
    assert main(["get", "one", "out"]) == 0
    assert b"-f overwrites it" in check_refused(capfdbinary, ["get", "one", "out"], exits.BUSY)
    assert main(["get", "-f", "one/t/d/g", "out/t/f"]) == 0
    assert (place / "out" / "t" / "f").read_bytes() == b"bar"


RESTRICTED = """
import contextlib, io, json, sys
from arvfuse.cli.main import main
found = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""


def test_what_may_not_be_read_or_written(place, store):
    """Run without the power of root to ignore permissions."""
    (place / "secret").write_bytes(b"x")
    (place / "secret").chmod(0)
    (place / "closed").mkdir(mode=0)
    (place / "fixed").mkdir(mode=0o555)
    cases = [
        ["put", f"{place}/secret"],
        ["put", f"{place}/closed"],
        ["get", "one", f"{place}/fixed/out"],
        ["get", "one/t/f", f"{place}/fixed/out"],
        ["put", f"{place}/file", "--store", f"{place}/fixed/store"],
        ["mount", "--read-write", "--store", f"{place}/fixed/store", f"{place}/mnt"],
        ["put", f"{place}/file", "--store", f"{place}/sealed"],
    ]
    shutil.copytree(store, place / "sealed")
    (place / "sealed" / "blocks").chmod(0o555)
    try:
        done = run_restricted(RESTRICTED, json.dumps(cases))
    finally:
        (place / "closed").chmod(0o755)
        (place / "sealed" / "blocks").chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    for arguments, (code, out, err) in zip(cases, json.loads(done.stdout), strict=True):
        assert (code, out) == (exits.FAILED, ""), (arguments, err)
        assert LINE.fullmatch(err.encode()), (arguments, err)
    assert (place / "file").read_bytes() == b"old"


def test_standard_output_that_is_full_is_said_and_not_passed_over(place, monkeypatch, capfdbinary):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = main(["ls"])
        monkeypatch.undo()
        assert code == exits.FAILED
        with pytest.raises(OSError, match="No space"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert b"No space left on device" in capfdbinary.readouterr().err
