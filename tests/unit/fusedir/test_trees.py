"""Directories of collections: entries, the record file, several places for one collection."""

from __future__ import annotations

import json
import mmap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import NotPermitted, ReadOnly, StoreUnavailable
from arvfuse.fusedir.host import Alias
from arvfuse.fusedir.trees import (
    CollectionDir,
    TreeDir,
    check_tree_change,
    rename_in_trees,
    tree_behind,
    tree_directory,
)
from arvfuse.fusefile import GeneratedFile
from arvfuse.sdk.nodes import DirNode
from tests.support.engines import Mounted, now

TEXT = b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n./d 5d41402abc4b2a76b9719d911017c592+5 0:5:g\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    made.engine.store.put(b"hello")
    yield made
    made.close()


def record_of(mounted: Mounted, number: int) -> Any:
    entry = now(mounted.ops.lookup(number, b".arvados#collection"))
    assert entry.timeout_s == entry.attr.timeout_s == 0
    return json.loads(mounted.read_file(entry.attr.no))


def test_a_collection_is_opened_when_it_is_looked_into(mounted: Mounted) -> None:
    mounted.engine.new_collection("c", TEXT)
    top = mounted.walk(b"home", b"c")
    directory = mounted.ops.host.inodes.find(top)
    assert isinstance(directory, CollectionDir)
    assert "open" not in mounted.engine.link.ops()
    assert mounted.names(top) == [b"d", b"f"]
    assert mounted.names(mounted.walk(b"home", b"c", b"d")) == [b"g"]
    assert mounted.engine.link.ops().count("open") == 1
    assert directory.identity in repr(directory)


def test_times_of_an_unopened_collection_are_the_records(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c", TEXT)
    attr = mounted.ops.getattr(mounted.walk(b"home", b"c"))
    assert (attr.is_dir, attr.mode, attr.mtime_ns) == (True, 0o777, record.modified_at_ns)


def test_the_record_file_commits_first_and_shows_what_the_catalog_has(mounted: Mounted) -> None:
    now(mounted.ops.mkdir(mounted.walk(b"home"), b"c", 0o755))
    top = mounted.walk(b"home", b"c")
    mounted.write_file(top, b"f", b"hello")
    assert b".arvados#collection" not in mounted.names(top)
    record = record_of(mounted, top)
    assert record["manifest_text"] == ". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n"
    assert record["version"] == 2
    assert len(mounted.engine.commits) == 1
    assert record_of(mounted, top) == record
    assert len(mounted.engine.commits) == 1, "nothing to commit"


def test_the_record_file_has_a_number_per_content(mounted: Mounted) -> None:
    now(mounted.ops.mkdir(mounted.walk(b"home"), b"c", 0o755))
    top = mounted.walk(b"home", b"c")
    first = mounted.walk(b"home", b"c", b".arvados#collection")
    assert mounted.walk(b"home", b"c", b".arvados#collection") == first
    text = mounted.read_file(first)
    assert text == json.dumps(json.loads(text), indent=4, sort_keys=True).encode() + b"\n"
    mounted.write_file(top, b"f", b"x")
    second = mounted.walk(b"home", b"c", b".arvados#collection")
    assert second != first
    assert mounted.read_file(first) == text, "an open handle keeps what it has"


def test_a_record_file_that_the_kernel_forgot_is_held_by_nobody(mounted: Mounted) -> None:
    """Small ones are in memory, big ones are maps, of which each has a descriptor for as long as the node lives."""
    mounted.engine.new_collection("small", b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n")
    names = b" ".join(b"0:5:file-%d" % number for number in range(10_000))
    mounted.engine.new_collection("big", b". 5d41402abc4b2a76b9719d911017c592+5 %s\n" % names)
    for name, kind in ((b"small", bytes), (b"big", mmap.mmap)):
        number = mounted.walk(b"home", name, b".arvados#collection")
        file = mounted.ops.host.inodes.find(number)
        assert isinstance(file, GeneratedFile)
        assert isinstance(file.content, kind)
        held: weakref.ref[GeneratedFile] = weakref.ref(file)
        del file
        mounted.ops.forget([(number, mounted.ops.host.inodes.count(number))])
        assert held() is None
        assert mounted.walk(b"home", name, b".arvados#collection") != number


def test_a_failed_commit_is_no_record(mounted: Mounted) -> None:
    now(mounted.ops.mkdir(mounted.walk(b"home"), b"c", 0o755))
    top = mounted.walk(b"home", b"c")
    mounted.write_file(top, b"f", b"x")
    mounted.engine.link.down = True
    with pytest.raises(StoreUnavailable):
        now(mounted.ops.lookup(top, b".arvados#collection"))
    mounted.engine.link.down = False
    assert record_of(mounted, top)["version"] == 2


@pytest.mark.parametrize("change", ["unlink", "rmdir", "mkdir", "create", "rename from", "rename to"])
def test_the_record_files_name_is_reserved(mounted: Mounted, change: str) -> None:
    name = b".arvados#collection"
    mounted.engine.new_collection("c", TEXT)
    top = mounted.walk(b"home", b"c")
    changes = {
        "unlink": lambda: mounted.ops.unlink(top, name),
        "rmdir": lambda: mounted.ops.rmdir(top, name),
        "mkdir": lambda: mounted.ops.mkdir(top, name, 0),
        "create": lambda: mounted.ops.create(top, name, 0, 2),
        "rename from": lambda: mounted.ops.rename(top, name, top, b"x"),
        "rename to": lambda: mounted.ops.rename(top, b"f", top, name),
    }
    with pytest.raises(NotPermitted):
        now(changes[change]())
    below = mounted.walk(b"home", b"c", b"d")
    assert mounted.write_file(below, name, b"fine: not in a root")


def test_content_by_hash_is_read_only(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c", TEXT)
    top = mounted.walk(b"by_id", record.pdh.encode())
    assert mounted.ops.getattr(top).mode == 0o555
    file = mounted.walk(b"by_id", record.pdh.encode(), b"f")
    assert mounted.read_file(file) == b"hello"
    directory = tree_directory(mounted.ops.host, mounted.engine.open[record.pdh].root)
    assert isinstance(directory, TreeDir)
    with pytest.raises(ReadOnly):
        check_tree_change(directory.live, directory.node, b"x")
    for change in (
        lambda: mounted.ops.create(top, b"x", 0, 2),
        lambda: mounted.ops.mkdir(top, b"x", 0),
        lambda: mounted.ops.unlink(top, b"f"),
        lambda: mounted.ops.rename(top, b"f", top, b"g"),
        lambda: mounted.ops.open(file, 2),
        lambda: mounted.ops.setattr(file, size=0),
        lambda: mounted.ops.access(file, 2),
    ):
        with pytest.raises(ReadOnly):
            now(change())


def test_two_places_share_files_but_not_directories(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c", TEXT)
    uuid = record.uuid.encode()
    home, by_id = mounted.walk(b"home", b"c"), mounted.walk(b"by_id", uuid)
    assert home != by_id
    assert mounted.walk(b"home", b"c", b"f") == mounted.walk(b"by_id", uuid, b"f")
    first, second = mounted.walk(b"home", b"c", b"d"), mounted.walk(b"by_id", uuid, b"d")
    assert first != second
    assert isinstance(mounted.ops.host.inodes.find(first), DirNode)
    alias = mounted.ops.host.inodes.find(second)
    assert isinstance(alias, Alias)
    assert mounted.walk(b"by_id", uuid, b"d", b"g") == mounted.walk(b"home", b"c", b"d", b"g")
    assert mounted.ops.getattr(second).no == second
    assert tree_directory(mounted.ops.host, alias).above() == by_id
    assert mounted.ops.lookup(second, b"..").attr.no == by_id  # type: ignore[union-attr]
    assert mounted.ops.lookup(first, b"..").attr.no == home  # type: ignore[union-attr]


def test_a_change_at_one_place_is_told_at_the_other(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c", TEXT)
    uuid = record.uuid.encode()
    home, by_id = mounted.walk(b"home", b"c"), mounted.walk(b"by_id", uuid)
    first, second = mounted.walk(b"home", b"c", b"d"), mounted.walk(b"by_id", uuid, b"d")
    mounted.told().clear()
    mounted.ops.unlink(first, b"g")
    assert mounted.told() == [(second, b"g")]
    mounted.told().clear()
    mounted.write_file(by_id, b"new", b"x")
    assert mounted.told() == [(home, b"new")]
    assert mounted.names(home) == mounted.names(by_id) == [b"d", b"f", b"new"]
    assert mounted.ops.lookup(by_id, b"f").timeout_s == 0  # type: ignore[union-attr]
    assert mounted.ops.lookup(home, b"f").timeout_s > 0  # type: ignore[union-attr]


def test_a_forgotten_alias_is_made_anew(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c", TEXT)
    mounted.walk(b"home", b"c", b"d")
    uuid = record.uuid.encode()
    second = mounted.walk(b"by_id", uuid, b"d")
    mounted.ops.forget([(second, 1)])
    assert mounted.walk(b"by_id", uuid, b"d") != second


def test_a_move_between_collections_is_told_where_it_was_not_asked(mounted: Mounted) -> None:
    one, two = (mounted.engine.new_collection(name, TEXT) for name in ("one", "two"))
    first, second = mounted.walk(b"home", b"one"), mounted.walk(b"home", b"two")
    other = mounted.walk(b"by_id", two.uuid.encode())
    mounted.names(other)
    host = mounted.ops.host
    source, target = (now(host.inodes.find(number).open()) for number in (first, second))
    rename_in_trees(host, source, b"f", target, b"f", True)
    assert mounted.told() == [(other, b"f")]
    assert mounted.names(first) == [b"d"]
    assert one.uuid != two.uuid


def test_the_tree_behind_a_node_is_the_one_it_is_in_now(mounted: Mounted) -> None:
    engine = mounted.engine
    record = engine.new_collection("c")
    number = mounted.walk(b"home", b"c")
    place = mounted.ops.host.inodes.find(number)
    assert isinstance(place, CollectionDir)
    assert (tree_behind(place), place.root_node()) == (None, None)
    mounted.write_file(number, b"f", b"x")
    live = engine.open[record.uuid]
    assert tree_behind(place) is tree_behind(live.root) is live
    assert place.root_node() is live.root
    assert tree_behind(mounted.ops.root) is None
