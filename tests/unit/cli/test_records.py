"""collections and recover, run in this process on a real store."""

from __future__ import annotations

import json

import pytest

from arvfuse.backend.parts import open_parts
from arvfuse.cli.parser import build
from arvfuse.cli.records import collections, recover
from arvfuse.clock import SystemClock
from arvfuse.errors import ArvfuseError, NoSuchEntry
from tests.support.opened import leave_changes


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARVFUSE_STORE", str(tmp_path))
    parts = open_parts(tmp_path, clock=SystemClock(), create=True)
    yield parts
    parts.close()


def asked(*arguments):
    return build().parse_args(list(arguments))


def test_collections_are_listed_by_name(store, capsys):
    two, one = store.catalog.create(name="two"), store.catalog.create(name="one")
    gone = store.catalog.create(name="gone")
    store.catalog.trash(gone.uuid)
    assert collections(asked("collections")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [one.uuid, two.uuid]
    assert lines[0].endswith(" one")
    assert collections(asked("collections", "--trash", "--json")) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["schema"] == 1
    assert [record["uuid"] for record in listed["collections"]] == [gone.uuid, one.uuid, two.uuid]


def test_recovery_names_what_it_committed_and_what_is_left(store, capsys):
    record = store.catalog.create(name="one")
    dead = leave_changes(store, record, b"file", b"foo")
    dead.unlock()
    assert recover(asked("recover")) == 0
    assert capsys.readouterr().out == f"{dead.mount} {record.uuid}\n"
    dead = leave_changes(store, store.catalog.get(record.uuid), b"more", b"foo")
    (dead.path / "recoveries").write_text("3")
    dead.unlock()
    assert recover(asked("recover", "--json")) == 7
    out, err = capsys.readouterr()
    assert json.loads(out)["mounts"][0]["left"]
    assert "--again" in err


def test_a_damaged_catalog_is_one_line(store, capsys, tmp_path):
    store.close()
    (tmp_path / "catalog.sqlite3").write_bytes(b"nonsense" * 1000)
    with pytest.raises(ArvfuseError, match=r"catalog\.sqlite3"):
        collections(asked("collections"))


def test_no_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NoSuchEntry, match="no store here"):
        collections(asked("collections", "--store", str(tmp_path / "none")))
