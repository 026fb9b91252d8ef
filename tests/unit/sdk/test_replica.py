"""Collections as rebuilt from base and log."""

from __future__ import annotations

from typing import Any

import pytest

from arvfuse.errors import Damaged
from arvfuse.model import records
from arvfuse.model.manifests import Manifest
from arvfuse.model.merge import Delete, MakeDir, Put, to_json
from arvfuse.model.ranges import HOLE
from arvfuse.model.records import ORPHAN, Record
from arvfuse.sdk.checkpoints import Covered
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.replica import Replica, ReplicaTree, apply_effect, make_directories

A = "781e5e245d69b566979b86e28d23f2c7+10"
BASE = f". {A} 0:10:f\n./d {A} 1:1:x\n"
TEXTS = {"p1": BASE, "p2": f". {A} 0:5:later\n"}


class Script:
    """Records made in order, for one replica."""

    def __init__(self, covered: dict[int, Covered] | None = None) -> None:
        self.replica = Replica(lambda pdh: Manifest(TEXTS[pdh].encode()), lambda no, uuid: (covered or {}).get(no))
        self.seq = 0

    def apply(self, tree: int, *bodies: Any, flags: int = 0) -> None:
        for body in bodies:
            self.seq += 1
            self.replica.apply(Record(self.seq, 1000 + self.seq, tree, flags, body, 0))

    def opened(self, tree: int, pdh: str = "p1", asof: int = 0, kind: str = "record") -> ReplicaTree:
        self.apply(tree, records.Base(kind, f"uuid{tree}", 3, pdh, asof, "name", None))
        return self.replica.trees[tree]


def text(tree: ReplicaTree) -> str:
    return tree.render()[0].decode()


def test_names_and_content() -> None:
    script = Script()
    tree = script.opened(1)
    assert (tree.dirty, tree.uuid, tree.version, tree.kind, tree.merge_base) == (False, "uuid1", 3, "record", "p1")
    script.apply(
        1,
        records.Adopt(2, 1, b"f"), records.WriteInline(2, 10, 4, 777), records.WriteBlock(2, 14, 5, 6, 0),
        records.Truncate(2, 20), records.Create(3, 1, b"new", 0o600), records.Segments(3, ((2, A, 0), (1, HOLE, 0))),
        records.Attrs(3, 55, 0o640), records.Mkdir(4, 1, b"e"), records.Rename(1, b"new", 4, b"moved"),
    )  # fmt: skip
    file, moved = tree.file(2), tree.file(3)
    assert file is not None
    assert moved is not None
    assert file.parts() == [(10, A, 0), (4, 0, 777), (5, 6, 0), (1, HOLE, 0)]
    assert (moved.parent, moved.name, moved.mtime_ns, moved.mode) == (tree.directory(4), b"moved", 55, 0o640)
    assert (tree.dirty, tree.seq, file.mtime_ns) == (True, script.seq, 1005)
    script.apply(1, records.Adopt(5, 1, b"d"), records.Remove(5, b"x"), records.Boundary())
    assert not tree.table(tree.directory(5))
    assert repr(tree) == f"<ReplicaTree 1 uuid1 asof=0 seq={script.seq - 1}>"


def test_what_is_covered_is_skipped() -> None:
    script = Script({1: Covered(3, "p2")})
    tree = script.opened(1)
    script.apply(1, records.Create(2, 1, b"old", 0), records.Remove(1, b"old"))
    assert (tree.asof, tree.dirty, text(tree)) == (3, False, TEXTS["p2"])
    script.apply(1, records.Create(3, 1, b"new", 0))
    assert (tree.dirty, sorted(tree.table(tree.root))) == (True, [b"later", b"new"])
    script.apply(1, records.Base("record", "uuid1", 9, "p1", 0, "name", None))
    assert script.replica.trees[1] is tree


def test_unlinked_files_live_until_they_are_forgotten() -> None:
    script = Script()
    tree = script.opened(1)
    script.apply(1, records.Adopt(2, 1, b"f"), records.Remove(1, b"f"))
    script.apply(1, records.WriteInline(2, 0, 3, 99), flags=ORPHAN)
    orphan = tree.file(2)
    assert (orphan is tree.orphans[2], orphan.parent if orphan else 0) == (True, None)
    fresh = script.replica.rebase(tree, script.seq, "p2", Manifest(TEXTS["p2"].encode()))
    assert (script.replica.trees[1], fresh.orphans, fresh.merge_base, fresh.asof) == (fresh, {2: orphan}, "p1", 4)
    script.apply(1, records.Truncate(2, 1), flags=ORPHAN)
    script.apply(1, records.Forget(2))
    assert (fresh.orphans, fresh.file(2)) == ({}, None)
    script.apply(1, records.Truncate(2, 0), flags=ORPHAN)


def test_what_cannot_be() -> None:
    script = Script()
    with pytest.raises(Damaged):
        script.apply(1, records.Remove(1, b"f"))
    script.opened(1)
    for body in (records.Truncate(2, 0), records.Remove(9, b"f"), records.Move(8, 8, b"f", 3, 1, b"f")):
        with pytest.raises(Damaged):
            script.apply(1, body)


def test_a_move_joins_two_trees() -> None:
    script = Script()
    one, other = script.opened(1), script.opened(10, "p2")
    script.apply(1, records.Adopt(2, 1, b"d"))
    script.apply(10, records.Move(1, 1, b"d", 2, 10, b"later"))
    assert (text(one), text(other)) == (f". {A} 0:10:f\n", f"./later {A} 1:1:x\n")
    assert (one.dirty, other.dirty, script.replica.tied(other)) == (True, True, [one, other])
    directory = other.directory(2)
    assert {node.tree for node in directory.loaded()} == {other}
    with pytest.raises(Damaged):
        one.directory(2)


def test_a_move_of_which_one_side_is_saved() -> None:
    for covered, expected in (
        ({10: Covered(99, "p2")}, (f". {A} 0:10:f\n", TEXTS["p2"])),
        ({1: Covered(99, "p2"), 10: Covered(99, "p2")}, (TEXTS["p2"], TEXTS["p2"])),
    ):
        script = Script(covered)
        one, other = script.opened(1), script.opened(10, "p2")
        script.apply(10, records.Move(1, 1, b"d", 2, 10, b"moved"))
        assert (text(one), text(other)) == expected
    script = Script({1: Covered(99, "p2")})
    script.opened(1)
    script.opened(10, "p2")
    with pytest.raises(Damaged):
        script.apply(10, records.Move(1, 1, b"d", 2, 10, b"moved"))


def test_merged_effects_apply_mechanically() -> None:
    script = Script()
    tree = script.opened(1)
    effects = (
        Delete((b"d", b"x")), MakeDir((b"e",)), Put((b"e", b"y"), ((2, A, 3),)), Put((b"f",), ((1, A, 0),)),
        MakeDir((b"e",)), Put((b"f", b"below"), ((1, A, 1),)),
    )  # fmt: skip
    script.apply(1, records.Adopt(2, 1, b"f"), records.Merged(8, "saved", tuple(map(to_json, effects))))
    assert text(tree) == ("./d d41d8cd98f00b204e9800998ecf8427e+0 0:0:\\056\n" + f"./e {A} 3:2:y\n./f {A} 1:1:below\n")
    assert (tree.version, tree.merge_base, list(tree.orphans)) == (8, "saved", [2])


def test_a_base_behind_a_merge_in_which_nothing_was_ours_is_where_the_tree_starts_again() -> None:
    """Also for who has not read the merge, which may stand in a file that went."""
    put = to_json(Put((b"f",), ((5, A, 0),)))
    for read in (True, False):
        script = Script()
        tree = script.opened(1)
        script.apply(1, records.Adopt(2, 1, b"f"), records.Adopt(3, 1, b"d"), records.Remove(3, b"x"))
        if read:
            script.apply(1, records.Merged(4, "p2", (put,)))
        script.seq = 20
        script.apply(1, records.Base("record", "uuid1", 4, "p2", 15, "name", None))
        started = script.replica.trees[1]
        assert (started is tree, started.dirty, started.asof, started.version) == (False, False, 15, 4)
        assert (started.merge_base, started.base_pdh) == ("p2", "p2")
        assert started.orphans is tree.orphans
        assert text(started) == TEXTS["p2"]
        # One that says what we know, or that something of ours stands behind, changes nothing.
        script.apply(1, records.Base("record", "uuid1", 4, "p2", 15, "name", None))
        script.apply(1, records.Mkdir(9, 1, b"ours"))
        script.apply(1, records.Base("record", "uuid1", 5, "p1", 16, "name", None))
        assert script.replica.trees[1] is started
        assert "ours" in text(started)


def test_effects_one_by_one() -> None:
    tree = Script().opened(1)
    parent, name, old = apply_effect(tree, to_json(Put((b"d", b"x"), ((3, A, 0),))), 5)
    assert (parent, name, isinstance(old, FileNode)) == (tree.find((b"d",)), b"x", True)
    made = make_directories(tree, (b"f", b"deep"), 6)
    assert (isinstance(tree.find((b"f",)), DirNode), made.path, made.mtime_ns) == (True, (b"f", b"deep"), 6)
    assert make_directories(tree, (b"f", b"deep"), 7) is made
