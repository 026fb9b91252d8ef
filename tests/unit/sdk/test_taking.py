"""What a merge brought comes into the live tree, decided again against what changed since the commit point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.model.merge import Delete, MakeDir, Put, to_json
from arvfuse.sdk.host import Host
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.taking import NameChange, read_here, take_effects
from tests.support.hosts import BigManifest, dump, make_committer, make_host

ASIDE = "~20200101-000000~conflict~"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = make_host(tmp_path)
    yield host
    host.close()


@pytest.fixture
def locator(host: Host) -> str:
    return host.store.put(b"0123456789")


def tree_with(host: Host, **files: str) -> LiveTree:
    """A tree whose files changed before the commit point."""
    tree = host.open_tree(None, None)
    for name, text in files.items():
        tree.write(tree.create(tree.root, name.encode()), 0, text.encode())
    return tree


def outcome(tree: LiveTree, seq: int, *effects: Any) -> Outcome:
    return Outcome(tree=tree.no, seq=seq, version=7, pdh="p", effects=tuple(to_json(effect) for effect in effects))


def shown(tree: LiveTree) -> dict[str, Any]:
    return dump(tree.shared.fetch, tree.root)


def replayed(host: Host, tree: LiveTree) -> dict[str, Any]:
    """What a replica makes of the log."""
    tree.shared.log.flush(tree.shared.log.seq)
    heir = make_committer(host.directory, host.store, None)
    try:
        heir.feed(1 << 60)
        heir.apply_ahead()
        return dump(heir._fetch, heir.replica.trees[tree.no].root)
    finally:
        heir.close()


def test_without_changes_of_ours_effects_are_taken_as_they_are(host: Host, locator: str) -> None:
    tree = tree_with(host, gone="x", kept="y")
    old = tree.find((b"gone",))
    seq = tree.shared.log.seq
    part = ((4, locator, 2),)
    changes = take_effects(
        tree, outcome(tree, seq, Put((b"kept",), part), Delete((b"gone",)), MakeDir((b"d",)), Put((b"d", b"in"), part))
    )
    assert shown(tree) == {"kept": b"2345", "d": {"in": b"2345"}}
    assert (tree.version, tree.pdh) == (7, "p")
    assert NameChange(tree.root, b"gone", old) in changes
    assert [change.name for change in changes] == [b"kept", b"gone", b"d", b"in"]


def test_what_we_changed_since_keeps_its_name(host: Host, locator: str) -> None:
    tree = tree_with(host, both="x", removed="y")
    seq = tree.shared.log.seq
    for name in (b"both", b"removed"):
        tree.write(tree.find((name,)), 1, b"!")  # type: ignore[arg-type] # a file
    take_effects(tree, outcome(tree, seq, Put((b"both",), ((1, locator, 5),)), Delete((b"removed",))))
    assert shown(tree) == {"both": b"x!", "both" + ASIDE: b"5", "removed": b"y!"}
    take_effects(tree, outcome(tree, seq, Put((b"both",), ((2, locator, 5),))))
    assert shown(tree)["both~20200101-000001~conflict~"] == b"56"


def test_a_file_of_ours_in_the_place_of_a_directory(host: Host, locator: str) -> None:
    tree = tree_with(host, d="file")
    put = Put((b"d", b"in"), ((1, locator, 5),))
    take_effects(tree, outcome(tree, 0, MakeDir((b"d",)), put, Delete((b"d", b"other"))))
    assert shown(tree) == {"d": b"file", "d" + ASIDE: {"in": b"5"}}


def test_a_big_directory_is_read_before_anything_is_changed(host: Host, locator: str) -> None:
    text = f"./d {locator} 0:1:f\n./d/e {locator} 0:2:g\n".encode()
    tree = host.open_tree(None, BigManifest(text, "somewhere"))
    seq, asked = tree.shared.log.seq, []

    def read(directory: DirNode) -> None:
        asked.append(directory.name)
        assert tree.shared.log.seq == seq
        read_here(directory)

    put = Put((b"d", b"new"), ((1, locator, 5),))
    take_effects(tree, outcome(tree, seq, put, Delete((b"d", b"e", b"g")), Delete((b"d", b"e"))), read)
    assert asked == [b"", b"d", b"e"]
    assert shown(tree) == {"d": {"f": b"0", "new": b"5"}}


def test_the_same_change_on_both_sides_is_one(host: Host, locator: str) -> None:
    tree = tree_with(host, f="x")
    seq = tree.shared.log.seq
    file = tree.find((b"f",))
    assert isinstance(file, FileNode)
    tree.set_content(file, ((3, locator, 0),))
    assert take_effects(tree, outcome(tree, seq, Put((b"f",), ((3, locator, 0),)))) == []
    assert shown(tree) == {"f": b"012"}


def test_a_file_open_for_reading_that_loses_its_name_stays_readable(host: Host, locator: str) -> None:
    tree = tree_with(host, f="old")
    file = tree.find((b"f",))
    assert isinstance(file, FileNode)
    tree.opened(file, write=False)
    take_effects(tree, outcome(tree, tree.shared.log.seq, Put((b"f",), ((1, locator, 0),))))
    assert (bytes(tree.read(file, 0, 9)), file.parent, shown(tree)) == (b"old", None, {"f": b"0"})


def test_a_file_open_for_writing_goes_on_under_a_conflict_name(host: Host, locator: str) -> None:
    tree = tree_with(host, f="old", gone="x")
    file = tree.find((b"f",))
    assert isinstance(file, FileNode)
    tree.opened(file, write=True)
    seq = tree.shared.log.seq
    changes = take_effects(tree, outcome(tree, seq, Put((b"f",), ((1, locator, 0),)), Delete((b"gone",))))
    tree.write(file, 3, b"er")
    assert shown(tree) == {"f": b"0", "f" + ASIDE: b"older"}
    assert [change.name for change in changes] == [b"f", b"f" + ASIDE.encode(), b"f", b"gone"]
    assert replayed(host, tree) == shown(tree)


def test_a_file_open_for_writing_takes_the_conflict_name_that_the_merge_gave_it(host: Host, locator: str) -> None:
    tree = host.open_tree(None, None)
    file = tree.create(tree.root, b"f")
    tree.set_content(file, ((3, locator, 4),))
    tree.opened(file, write=True)
    theirs, ours = Put((b"f",), ((1, locator, 0),)), Put((b"f~20191231-235959~conflict~",), ((3, locator, 4),))
    take_effects(tree, outcome(tree, tree.shared.log.seq, theirs, ours))
    tree.write(file, 3, b"!")
    assert shown(tree) == {"f": b"0", "f~20191231-235959~conflict~": b"456!"}
    assert replayed(host, tree) == shown(tree)


def test_a_replay_gives_the_same_tree(host: Host, locator: str) -> None:
    tree = tree_with(host, both="x", d="file")
    seq = tree.shared.log.seq
    tree.write(tree.find((b"both",)), 1, b"!")  # type: ignore[arg-type] # a file
    take_effects(
        tree, outcome(tree, seq, Put((b"both",), ((1, locator, 5),)), Put((b"d", b"e", b"f"), ((2, locator, 0),)))
    )
    tree.create(tree.root, b"after")
    tree.shared.log.flush(tree.shared.log.seq)
    assert replayed(host, tree) == shown(tree)
