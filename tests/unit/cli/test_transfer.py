"""put, get and ls, run in this process on a real store."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from arvfuse.cli.parser import build
from arvfuse.cli.transfer import get, ls, put
from arvfuse.errors import ArgumentError, EntryExists, IsADirectory, NameTaken, NoSuchEntry, NoSuchRecord


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARVFUSE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "empty").mkdir()
    (tmp_path / "d" / "sub" / "big").write_bytes(b"0123456789" * 300_000)
    (tmp_path / "d" / "foo").write_bytes(b"foo")
    with open(b"d/caf\xe9", "wb") as file:
        file.write(b"bar")
    return tmp_path


def asked(*arguments):
    return build().parse_args([str(argument) for argument in arguments])


def store(capsys, *arguments):
    assert put(asked("put", *arguments)) == 0
    uuid, pdh = capsys.readouterr().out.split()
    return uuid, pdh


def test_what_was_put_is_got_back(tree, capsys):
    uuid, pdh = store(capsys, "--name", "one", "d/")
    assert get(asked("get", uuid, "out")) == 0
    assert (tree / "out" / "sub" / "big").read_bytes() == (tree / "d" / "sub" / "big").read_bytes()
    assert sorted(os.listdir(b"out")) == [b"caf\xe9", b"empty", b"foo", b"sub"]
    assert get(asked("get", "home/one/sub", "sub only")) == 0
    assert os.listdir("sub only") == ["big"]
    assert get(asked("get", f"{pdh}/foo", "copy")) == 0
    assert (tree / "copy").read_bytes() == b"foo"
    assert get(asked("get", f"{uuid}/foo", "out/sub")) == 0
    assert (tree / "out" / "sub" / "foo").read_bytes() == b"foo"


def test_the_same_tree_has_the_same_hash(capsys):
    assert store(capsys, "d/")[1] == store(capsys, "d/")[1]


def test_the_hash_is_of_the_manifest(tree, capsys):
    _, pdh = store(capsys, "d/foo")
    text = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:foo\n"
    assert pdh == f"{hashlib.md5(text).hexdigest()}+{len(text)}"


def test_listing(capfdbinary):
    assert put(asked("put", "--name", "one", "d/")) == 0
    capfdbinary.readouterr()
    assert ls(asked("ls")) == 0
    assert capfdbinary.readouterr().out == b"one\n"
    assert ls(asked("ls", "one")) == 0
    assert capfdbinary.readouterr().out == b"./caf\xe9\n./empty/\n./foo\n./sub/big\n"
    assert ls(asked("ls", "-l", "one/sub")) == 0
    assert capfdbinary.readouterr().out == b"     3000000 ./big\n"
    assert ls(asked("ls", "--json", "one/foo")) == 0
    assert json.loads(capfdbinary.readouterr().out) == {"schema": 1, "entries": [{"path": "foo", "bytes": 3}]}


def test_a_file_to_standard_output(capfdbinary):
    assert put(asked("put", "--name", "one", "d/")) == 0
    capfdbinary.readouterr()
    assert get(asked("get", "one/sub/big", "-")) == 0
    assert capfdbinary.readouterr().out == b"0123456789" * 300_000


def test_nothing_is_overwritten_without_force(tree, capsys):
    uuid, _ = store(capsys, "d/")
    (tree / "foo").write_bytes(b"old")
    with pytest.raises(EntryExists, match="-f"):
        get(asked("get", f"{uuid}/foo", "foo"))
    assert get(asked("get", "-f", "--json", f"{uuid}/foo", "foo")) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 3
    assert (tree / "foo").read_bytes() == b"foo"


def test_bad_input(tree, capsys):
    uuid, _ = store(capsys, "--name", "one", "d/")
    cases = [
        (get, ("get", "two", "out"), NoSuchRecord, "no such collection"),
        (get, ("get", f"{uuid}/nothing", "out"), NoSuchEntry, "arvfuse ls"),
        (get, ("get", uuid, "-"), IsADirectory, "only a file"),
        (get, ("get", uuid, "d/foo"), ArgumentError, "not a directory"),
        (get, ("get", f"{uuid}/foo", "nothing/foo"), NoSuchEntry, "mkdir"),
        (get, ("get", f"{uuid}/foo", "nothing/"), NoSuchEntry, "slash"),
        (put, ("put", "--name", "one", "d/"), NameTaken, "one"),
        (put, ("put", "--name", "", "d/"), ArgumentError, "--name"),
        (put, ("put", "nothing"), NoSuchEntry, "nothing"),
        (ls, ("ls", "two"), NoSuchRecord, "two"),
    ]
    for function, arguments, kind, why in cases:
        with pytest.raises(kind, match=why):
            function(asked(*arguments))
