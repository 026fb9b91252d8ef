"""Sessions: an opened store for library users."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse import session
from arvfuse.backend import mountdirs
from arvfuse.backend.identities import Resolved
from arvfuse.errors import ArgumentError, NoSuchEntry, NoSuchRecord, NotADirectory, ReadOnly
from arvfuse.model.collections import MountId
from arvfuse.sdk.collection import Collection, CollectionReader
from arvfuse.session import Session
from arvfuse.session import open as open_session
from tests.support.clock import FakeClock


def opened(directory: Path, **options: bool) -> Session:
    return open_session(directory, clock=FakeClock(auto=True), unsafe_filesystem=True, **options)


def write(collection: Collection, path: str, text: str) -> None:
    with collection.open(path, "w") as handle:
        handle.write(text)


def test_a_store_is_made_used_and_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as s:
        c = s.new("first")
        write(c, "d/f", "hello")
        c.save()
        uuid, pdh = c.manifest_locator(), c.portable_data_hash()
        assert (s.catalog.get(uuid).pdh, s.store.contains("5d41402abc4b2a76b9719d911017c592+5")) == (pdh, True)
        assert s.host.durable
        unnamed = s.new()
        assert (unnamed.manifest_locator(), unnamed.modified()) == (None, True)
    for identity in (uuid, pdh, "first", "home/first", "first@2"):
        with open_session(str(tmp_path / "store"), unsafe_filesystem=True) as s:
            assert s.collection(identity).open("d/f").read() == "hello"
    with open_session(f"file://{tmp_path}/store", read_only=True, unsafe_filesystem=True) as s:
        assert s.collection("first").portable_data_hash() == pdh


def test_identities(tmp_path: Path) -> None:
    with opened(tmp_path) as s:
        project = s.catalog.create_project(name="p")
        record = s.catalog.create(name="c", owner=project.uuid)
        top = s.new("top")
        write(top, "f", "1")
        top.save(preserve_version=True)
        top_uuid = top.manifest_locator()
        assert s.resolve("p/c") == s.resolve("home/p/c") == Resolved(record, record.pdh, "", True)
        assert s.resolve(f"{record.uuid}/d/f") == Resolved(record, record.pdh, "d/f", True)
        assert s.resolve(f"{record.pdh}/d/") == Resolved(None, record.pdh, "d", False)
        old = s.resolve("top@1/x")
        assert (old.record.version, old.record.uuid, old.path, old.current) == (1, top_uuid, "x", False)
        first = s.collection("top@1")
        assert (first.keys(), first.manifest_locator()) == ([], record.pdh)
        for missing in ("nothing", "p", "p/nothing", "top@77", "top@x", "zzzzz-4zz18-012345678901234"):
            with pytest.raises(NoSuchRecord):
                s.collection(missing)
        for bad in ("", "/", "top/f"):
            with pytest.raises(ArgumentError):
                s.collection(bad)


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as s:
        write(c := s.new("c"), "f", "x")
        c.save()
    before = sorted(path for path in tmp_path.rglob("*") if "-wal" not in path.name and "-shm" not in path.name)
    with opened(tmp_path, read_only=True) as s:
        c = s.collection("c")
        assert (type(c), c.open("f").read(), s.read_only) == (CollectionReader, "x", True)
        with pytest.raises(ReadOnly):
            c.open("f", "w")
        with pytest.raises(ReadOnly):
            s.new("other")
    after = sorted(path for path in tmp_path.rglob("*") if "-wal" not in path.name and "-shm" not in path.name)
    assert after == before


def test_a_living_session_is_no_leftover_and_a_closed_one_leaves_nothing(tmp_path: Path) -> None:
    s = opened(tmp_path)
    write(s.new("c"), "f", "not saved")
    [path] = mountdirs.mounts_of(tmp_path)
    assert (mountdirs.is_alive(path), path.name) == (True, s.host.mount)
    assert "open" in repr(s)
    s.close()
    s.close()
    assert (list(mountdirs.mounts_of(tmp_path)), "closed" in repr(s)) == ([], True)
    with opened(tmp_path) as s:
        assert s.collection("c").keys() == []


def test_what_was_fsynced_and_never_saved_is_kept_by_a_recovery(tmp_path: Path) -> None:
    with opened(tmp_path) as s:
        c = s.new("c")
        with c.open("f", "wb") as handle:
            handle.write(b"precious")
            handle.fsync()
        mount = s.host.mount
    [path] = mountdirs.mounts_of(tmp_path)
    assert (MountId(path.name), mountdirs.is_alive(path)) == (mount, False)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectory):
        opened(tmp_path / "file")
    with pytest.raises(NoSuchEntry):
        opened(tmp_path / "missing", read_only=True)
    with pytest.raises(ArgumentError):
        session.open("https://example.com/")
