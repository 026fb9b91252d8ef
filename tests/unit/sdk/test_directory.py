"""Paths, names, copies and moves of library users: the table of the SDK's contract, call by call."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import (
    ArgumentError,
    DirectoryNotEmpty,
    EntryExists,
    InvalidPath,
    IsADirectory,
    NoSuchEntry,
    NotADirectory,
    ReadOnly,
)
from arvfuse.sdk.collection import COLLECTION, FILE, Collection, CollectionReader
from arvfuse.sdk.directory import CollectionBase, Subcollection
from arvfuse.sdk.fileitem import ArvadosFile
from arvfuse.sdk.host import Host
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host

A = "781e5e245d69b566979b86e28d23f2c7+10"
TEXT = f". {A} 0:10:file 0:3:other\n./dir {A} 0:10:f\n./dir/sub {A} 2:2:deep\n"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    store = MemoryStore()
    store.put(b"0123456789")
    host = make_host(tmp_path, store)
    yield host
    host.close()


@pytest.fixture
def c(host: Host) -> Collection:
    return Collection(TEXT, host=host)


def tree(directory: Any) -> dict[str, Any]:
    return {
        name: item.readfrom(0, 100).decode() if isinstance(item, ArvadosFile) else tree(item)
        for name, item in directory.items()
    }


@pytest.mark.parametrize("path", ["missing", "missing/deep", "dir/missing", "dir/missing/"])
def test_find_nothing(c: Collection, path: str) -> None:
    assert (c.find(path), c.exists(path)) == (None, False)


def test_find(c: Collection) -> None:
    assert (c.find("."), c.root_collection()) == (c, c)
    for path in ("dir", "dir/", "./dir", "./dir/"):
        assert c.find(path) is c["dir"]
    assert isinstance(c["dir"], Subcollection)
    assert isinstance(c["dir"], CollectionBase)
    assert c["dir"].find("sub/deep") is c["dir"]["sub"]["deep"] is c.find("./dir/sub/deep")
    assert (c["dir"].root_collection(), c["dir"].parent, c["dir"]["sub"].parent) == (c, c, c["dir"])
    assert c.parent is None
    assert (c["dir"]["sub"].name, c["dir"]["sub"].stream_name(), c.stream_name()) == ("sub", "./dir/sub", ".")
    assert repr(c["dir"]["sub"]) == "<Subcollection ./dir/sub>"


def test_find_what_makes_no_sense(c: Collection) -> None:
    for path in ("/x", "/", "dir//sub", "file/x", "file/"):
        with pytest.raises(NotADirectory):
            c.find(path)
    for path in ("", "./"):
        with pytest.raises(ArgumentError):
            c.find(path)
    with pytest.raises(ArgumentError):
        c["dir"].find(".")
    with pytest.raises(AttributeError):
        c.find(None)  # type: ignore[arg-type]


def test_find_or_create(c: Collection) -> None:
    assert c.find_or_create("file", COLLECTION) is c["file"]
    assert c.find_or_create("dir", FILE) is c["dir"]
    assert (c.find_or_create("", FILE), c.find_or_create(".", FILE)) == (c, c)
    assert c.committed()
    assert isinstance(c.find_or_create("new/er/f", FILE), ArvadosFile)
    assert isinstance(c.find_or_create("new/er/d", COLLECTION), Subcollection)
    assert c.find_or_create("new/er/e/", FILE) == c["new"]["er"]["e"]
    assert tree(c["new"]) == {"er": {"f": "", "d": {}, "e": {}}}
    for path in ("file/x", "a//b", "/a"):
        with pytest.raises(NotADirectory):
            c.find_or_create(path, FILE)
    with pytest.raises(ArgumentError):
        c.find_or_create("y", "fifo")


def test_mkdirs(c: Collection) -> None:
    assert c.mkdirs("x/y") is c["x"]["y"]
    for path in ("x", "x/y", "file"):
        with pytest.raises(EntryExists):
            c.mkdirs(path)
    for path in ("file/x", "/a"):
        with pytest.raises(NotADirectory):
            c.mkdirs(path)
    with pytest.raises(ArgumentError):
        c.mkdirs("")


def test_remove(c: Collection) -> None:
    for path in ("", "."):
        with pytest.raises(ArgumentError):
            c.remove(path)
    for path in ("missing", "missing/x", "dir/missing"):
        with pytest.raises(NoSuchEntry):
            c.remove(path)
    with pytest.raises(DirectoryNotEmpty) as caught:
        c.remove("dir")
    assert caught.value.errno == errno.ENOTEMPTY
    with pytest.raises(NotADirectory):
        c.remove("file/")
    c.remove("dir/sub/deep")
    c.remove("dir/sub/")
    c.remove("./file")
    assert tree(c) == {"dir": {"f": "0123456789"}, "other": "012"}
    c.remove("dir", recursive=True)
    assert c.keys() == ["other"]


def test_as_a_mapping(c: Collection) -> None:
    assert (list(c), len(c), bool(c), "file" in c, "dir/f" in c, 3 in c) == (
        ["dir", "file", "other"], 3, True, True, False, False,
    )  # fmt: skip
    assert c.items() == list(zip(c.keys(), c.values(), strict=True))
    del c["dir"]
    assert "dir" not in c
    for missing in ("dir", "file/x"):
        with pytest.raises(KeyError):
            c[missing]
        with pytest.raises(KeyError):
            del c[missing]


def test_equality_is_by_content(c: Collection, host: Host) -> None:
    other = Collection(TEXT.replace("0:10:f\n", "0:4:f 4:6:f\n"), host=host)
    assert (c == other, c["dir"] == other["dir"], c != other) == (True, True, False)
    other.remove("dir/sub", recursive=True)
    assert c != other
    assert c["file"] == c["dir"]["f"]
    assert (c["file"] == c["dir"], c == 3) == (False, False)


def test_open(c: Collection) -> None:
    assert c.open("file").read() == "0123456789"
    assert c.open("dir/f", "rb").read() == b"0123456789"
    for path in ("missing", "dir/missing"):
        for mode in ("r", "rb", "r+", "r+b"):
            with pytest.raises(NoSuchEntry):
                c.open(path, mode)
    for path, mode in (("dir", "r"), ("dir", "w"), ("dir", "r+"), ("new/", "w")):
        with pytest.raises(IsADirectory):
            c.open(path, mode)
    with pytest.raises(EntryExists):
        c.open("file", "x")
    for mode in ("", "q", "rw"):
        with pytest.raises(ArgumentError):
            c.open("file", mode)
    with c.open("deep/er/x", "xb") as handle:
        handle.write(b"new")
    c.open("file", "w").close()
    assert tree(c)["deep"] == {"er": {"x": "new"}}
    assert c["file"].size() == 0


def test_opening_to_write_changes_nothing_by_itself(c: Collection) -> None:
    for mode in ("r+", "a", "ab+"):
        c.open("file", mode).close()
    assert c.committed()
    assert c.manifest_text() == TEXT


def test_copy(c: Collection) -> None:
    c.copy("file", "new/copy")
    c.copy("dir", "twin")
    c.copy("file", "dir/")
    c.copy("file", "twin")  # a directory: into it
    c.copy(c["other"], "twin/other")
    assert tree(c)["new"] == {"copy": "0123456789"}
    assert tree(c)["twin"] == {"f": "0123456789", "sub": {"deep": "23"}, "file": "0123456789", "other": "012"}
    for source, target in (("file", "other"), (c["file"], "dir"), ("dir", "file")):
        with pytest.raises(EntryExists):
            c.copy(source, target)
    with pytest.raises(NoSuchEntry):
        c.copy("missing", "x")
    with pytest.raises(NotADirectory):
        c.copy("file", "/x")
    with pytest.raises(InvalidPath):
        c.copy("dir", "dir/itself")
    c.copy("dir", "file", overwrite=True)
    assert tree(c)["file"] == tree(c)["dir"]
    c.copy(c["other"], "file", overwrite=True)
    assert tree(c)["file"] == "012"
    with c.open("file", "ab") as handle:
        handle.write(b"!")
    assert c["other"].size() == 3


def test_rename(c: Collection) -> None:
    node = c["dir"]["f"].node
    c.rename("dir/f", "renamed")
    assert c["renamed"].node is node
    c.rename("renamed", "dir/sub/")
    c.rename("dir/sub", "up")
    assert tree(c) == {"dir": {}, "file": "0123456789", "other": "012", "up": {"deep": "23", "renamed": "0123456789"}}
    with pytest.raises(NoSuchEntry, match="Target directory not found"):
        c.rename("file", "missing/x")
    for overwrite in (False, True):
        with pytest.raises(NotADirectory):
            c.rename("file", "other/x", overwrite=overwrite)
    with pytest.raises(EntryExists):
        c.rename("file", "file")
    c.rename("file", "file", overwrite=True)
    c.rename("up", "file", overwrite=True)
    assert tree(c)["file"] == {"deep": "23", "renamed": "0123456789"}
    with pytest.raises(InvalidPath):
        c.rename(c["file"]["deep"], "file", overwrite=True)
    c.rename(c["other"], "file", overwrite=True)
    assert tree(c) == {"dir": {}, "file": "012"}


def test_between_collections(c: Collection, host: Host) -> None:
    target = Collection(host=host)
    with c.open("dir/f", "ab") as handle:
        handle.write(b"more")
    target.copy("dir", "d", source_collection=c)
    target.rename("dir", "moved", source_collection=c)
    assert tree(target["d"]) == tree(target["moved"]) == {"f": "0123456789more", "sub": {"deep": "23"}}
    assert c.keys() == ["file", "other"]
    reader = CollectionReader(TEXT, host=host)
    target.copy("file", "f", source_collection=reader)
    with pytest.raises(ReadOnly):
        target.rename("file", "g", source_collection=reader)
    assert tree(target)["f"] == "0123456789"


def test_add(c: Collection) -> None:
    c["dir"].add(c["file"], "copied")
    c["dir"].add(c["other"], "moved", reparent=True)
    assert tree(c) == {
        "dir": {"copied": "0123456789", "f": "0123456789", "moved": "012", "sub": {"deep": "23"}},
        "file": "0123456789",
    }
    for name in ("", ".", "a/b"):
        with pytest.raises(ArgumentError):
            c.add(c["file"], name)


def test_a_reader_refuses_changes(host: Host) -> None:
    reader = CollectionReader(TEXT, host=host)
    assert not reader.writable()
    for change in (
        lambda: reader.open("file", "w"), lambda: reader.open("file", "r+"), lambda: reader.open("new", "a"),
        lambda: reader.mkdirs("x"), lambda: reader.remove("file"), lambda: reader.copy("file", "x"),
        lambda: reader.rename("file", "x"), lambda: reader.__delitem__("file"), lambda: reader["file"].truncate(0),
        lambda: reader["file"].writeto(0, b"x"), lambda: reader.find_or_create("x", FILE), reader.save,
        reader.save_new, reader.update,
    ):  # fmt: skip
        with pytest.raises(ReadOnly) as caught:
            change()
        assert caught.value.errno == errno.EROFS
    assert reader.manifest_text() == TEXT


def test_the_text_of_a_directory(c: Collection) -> None:
    sub = c["dir"]
    assert sub.manifest_text() == f". {A} 0:10:f\n./sub {A} 2:2:deep\n"
    assert sub.manifest_text("./x y") == f"./x\\040y {A} 0:10:f\n./x\\040y/sub {A} 2:2:deep\n"
    assert sub.portable_manifest_text() == sub.manifest_text()
    assert sub.portable_data_hash() == Collection(sub.manifest_text()).portable_data_hash()
    c.mkdirs("empty")
    assert (c["empty"].manifest_text(), c["empty"].portable_data_hash()) == ("", "d41d8cd98f00b204e9800998ecf8427e+0")
    sub.flush()
    assert sub.modified()


def test_what_was_removed_refuses(c: Collection) -> None:
    gone = c["dir"]
    c.remove("dir", recursive=True)
    with pytest.raises(OSError, match="Stale"):
        gone.open("new", "w")
    assert c.find_or_create("dir", COLLECTION) is not gone
    assert c.manifest_text()


def test_subscribers_are_told(c: Collection) -> None:
    seen: list[tuple[Any, ...]] = []
    inner: list[str] = []
    c.subscribe(lambda event, where, name, item: seen.append((event, where.stream_name(), name)))
    c["dir"].subscribe(lambda event, where, name, item: inner.append(f"{event} {name}"))
    with pytest.raises(ArgumentError):
        c.subscribe(print)
    with c.open("n", "wb") as handle:
        handle.write(b"x")
    c.rename("n", "dir/m")
    c.rename("file", "dir/m", overwrite=True)
    del c["other"]
    assert seen == [
        ("add", ".", "n"), ("write", ".", "n"), ("del", ".", "n"), ("add", "./dir", "m"), ("del", ".", "file"),
        ("mod", "./dir", "m"), ("del", ".", "other"),
    ]  # fmt: skip
    assert inner == ["add m", "mod m"]
    c.unsubscribe()
    c["dir"].unsubscribe()
    c.mkdirs("quiet")
    assert len(seen) == 7
