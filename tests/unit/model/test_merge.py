"""The three-way merge: the conflict matrix, and what always holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import ArgumentError
from arvfuse.model.merge import (
    Delete,
    Effect,
    FileValue,
    MakeDir,
    Put,
    View,
    conflict_name,
    from_json,
    merge,
    to_json,
)
from arvfuse.model.ranges import HOLE, LOG
from tests.support.profiles import searching

NOW_NS = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC
SUFFIX = "~20231114-221320~conflict~"
NEXT_SUFFIX = "~20231114-221321~conflict~"

# In these tests a file is its content and, behind @, when it was changed: "new@7".
Tree = dict[str, "str | Tree"]


def value(text: str) -> FileValue:
    content, _, changed = text.partition("@")
    locator = f"{hashlib.md5(content.encode()).hexdigest()}+{len(content)}"
    return FileValue.of([(len(content), locator, 0)], int(changed or 0))


CONTENT = {value(text).segments: text for text in ("", "old", "mine", "your", "both", *"abcdefgh")}


class DictView:
    """A tree of dicts as a side of a merge."""

    def __init__(self, tree: Tree, *, marked: bool = True) -> None:
        self.tree = tree
        self.marked = marked

    def fingerprint(self) -> bytes | None:
        return json.dumps(bare(self.tree), sort_keys=True).encode() if self.marked else None

    def files(self) -> Mapping[bytes, FileValue]:
        return {name.encode(): value(entry) for name, entry in self.tree.items() if isinstance(entry, str)}

    def dirs(self) -> Mapping[bytes, View]:
        below = {name.encode(): entry for name, entry in self.tree.items() if isinstance(entry, dict)}
        return {name: DictView(entry, marked=self.marked) for name, entry in below.items()}


def bare(tree: Tree) -> Tree:
    """Without the times."""
    return {name: bare(e) if isinstance(e, dict) else e.partition("@")[0] for name, e in tree.items()}


def applied(tree: Tree, effects: list[Effect]) -> Tree:
    result = bare(tree)
    for effect in effects:
        *above, name = (part.decode() for part in effect.path)
        directory = result
        for part in above:
            directory = directory[part]
            assert isinstance(directory, dict)
        match effect:
            case Put(_, segments):
                assert not isinstance(directory.get(name), dict)
                directory[name] = CONTENT[segments]
            case MakeDir(_):
                assert name not in directory
                directory[name] = {}
            case Delete(_):
                assert directory[name] == {} or isinstance(directory[name], str), "only what is empty is deleted"
                del directory[name]
    return result


def merged(base: Tree, ours: Tree, theirs: Tree, *, marked: bool = True, taken: frozenset = frozenset()) -> Tree:
    views = [DictView(tree, marked=marked) for tree in (base, ours, theirs)]
    effects = merge(*views, now_ns=NOW_NS, taken=taken)
    assert [from_json(json.loads(json.dumps(to_json(effect)))) for effect in effects] == effects
    return applied(ours, effects)


F, G = "f", "f" + SUFFIX

MATRIX: list[tuple[str, Tree, Tree, Tree, Tree]] = [
    # what happened, base, ours, theirs, result
    ("nothing", {F: "old"}, {F: "old"}, {F: "old"}, {F: "old"}),
    ("they added", {}, {}, {F: "your"}, {F: "your"}),
    ("we added", {}, {F: "mine"}, {}, {F: "mine"}),
    ("both added the same", {}, {F: "both@1"}, {F: "both@2"}, {F: "both"}),
    ("both added, ours newer", {}, {F: "mine@2"}, {F: "your@1"}, {F: "mine", G: "your"}),
    ("both added, theirs newer", {}, {F: "mine@1"}, {F: "your@2"}, {F: "your", G: "mine"}),
    ("both added, equally old", {}, {F: "mine@1"}, {F: "your@1"}, {F: "mine", G: "your"}),
    ("both added, ours unknown", {}, {F: "mine"}, {F: "your@2"}, {F: "mine", G: "your"}),
    ("both added, theirs unknown", {}, {F: "mine@2"}, {F: "your"}, {F: "mine", G: "your"}),
    ("they changed", {F: "old"}, {F: "old@9"}, {F: "your@1"}, {F: "your"}),
    ("we changed", {F: "old"}, {F: "mine@1"}, {F: "old@9"}, {F: "mine"}),
    ("both changed to the same", {F: "old"}, {F: "both@1"}, {F: "both@2"}, {F: "both"}),
    ("both changed, ours newer", {F: "old"}, {F: "mine@2"}, {F: "your@1"}, {F: "mine", G: "your"}),
    ("both changed, theirs newer", {F: "old"}, {F: "mine@1"}, {F: "your@2"}, {F: "your", G: "mine"}),
    ("they deleted", {F: "old"}, {F: "old"}, {}, {}),
    ("we deleted", {F: "old"}, {}, {F: "old"}, {}),
    ("both deleted", {F: "old"}, {}, {}, {}),
    ("they deleted, we changed", {F: "old"}, {F: "mine"}, {}, {F: "mine"}),
    ("we deleted, they changed", {F: "old"}, {}, {F: "your"}, {F: "your"}),
    ("emptied and deleted", {F: "old"}, {F: ""}, {}, {F: ""}),
    # directories
    ("they added a directory", {}, {}, {"d": {F: "your", "e": {}}}, {"d": {F: "your", "e": {}}}),
    ("we added a directory", {}, {"d": {F: "mine"}}, {}, {"d": {F: "mine"}}),
    ("both added a directory", {}, {"d": {"a": "a"}}, {"d": {"b": "b"}}, {"d": {"a": "a", "b": "b"}}),
    ("they deleted a directory", {"d": {F: "old", "e": {"g": "a"}}}, {"d": {F: "old", "e": {"g": "a"}}}, {}, {}),
    ("we deleted a directory", {"d": {F: "old"}}, {}, {"d": {F: "old"}}, {}),
    ("they deleted an empty directory", {"d": {}}, {"d": {}}, {}, {}),
    ("they deleted a directory we emptied", {"d": {F: "old"}}, {"d": {}}, {}, {}),
    (
        "they deleted a directory, we added",
        {"d": {"a": "a", "s": {"b": "b"}}},
        {"d": {"a": "a", "s": {"b": "b", F: "mine"}}},
        {},
        {"d": {"s": {F: "mine"}}},
    ),
    (
        "they deleted a directory, we changed",
        {"d": {"a": "a", F: "old"}},
        {"d": {"a": "a", F: "mine"}},
        {},
        {"d": {F: "mine"}},
    ),
    (
        "they deleted a directory, we made one in it",
        {"d": {"a": "a"}},
        {"d": {"a": "a", "e": {}}},
        {},
        {"d": {"e": {}}},
    ),
    (
        "we deleted a directory, they added",
        {"d": {"a": "a", "s": {"b": "b"}}},
        {},
        {"d": {"a": "a", "s": {"b": "b", F: "your"}}},
        {"d": {"s": {F: "your"}}},
    ),
    (
        "we deleted a directory, they changed",
        {"d": {"a": "a", F: "old"}},
        {},
        {"d": {"a": "a", F: "your"}},
        {"d": {F: "your"}},
    ),
    (
        "we deleted a directory, they made one in it",
        {"d": {"a": "a"}},
        {},
        {"d": {"a": "a", "e": {}}},
        {"d": {"e": {}}},
    ),
    # a file on one side, a directory on the other
    ("file became directory there", {F: "old"}, {F: "old"}, {F: {"a": "a"}}, {F: {"a": "a"}}),
    ("file became directory here", {F: "old"}, {F: {"a": "a"}}, {F: "old"}, {F: {"a": "a"}}),
    ("file became directory here, deleted there", {F: "old"}, {F: {"a": "a"}}, {}, {F: {"a": "a"}}),
    ("file became directory there, deleted here", {F: "old"}, {}, {F: {"a": "a"}}, {F: {"a": "a"}}),
    (
        "directory became file there",
        {F: {"a": "a", "s": {"b": "b"}}},
        {F: {"a": "a", "s": {"b": "b"}}},
        {F: "your"},
        {F: "your"},
    ),
    ("directory became file here", {F: {"a": "a"}}, {F: "mine"}, {F: {"a": "a"}}, {F: "mine"}),
    ("directory became file there, deleted here", {F: {"a": "a"}}, {}, {F: "your"}, {F: "your"}),
    ("directory became file here, deleted there", {F: {"a": "a"}}, {F: "mine"}, {}, {F: "mine"}),
    ("directory became two files", {F: {"a": "a"}}, {F: "mine@1"}, {F: "your@2"}, {F: "your", G: "mine"}),
    ("file became two directories", {F: "old"}, {F: {"a": "a"}}, {F: {"b": "b"}}, {F: {"a": "a", "b": "b"}}),
    ("we added a file, they a directory", {}, {F: "mine@2"}, {F: {"a": "a@1"}}, {F: "mine", G: {"a": "a"}}),
    ("we added a file, they a newer directory", {}, {F: "mine@1"}, {F: {"a": "a@2"}}, {F: {"a": "a"}, G: "mine"}),
    ("we added a directory, they a file", {}, {F: {"a": "a@2"}}, {F: "your@1"}, {F: {"a": "a"}, G: "your"}),
    (
        "we added a directory, they a newer file",
        {},
        {F: {"a": "a@1", "e": {}}},
        {F: "your@2"},
        {F: "your", G: {"a": "a", "e": {}}},
    ),
    ("we added an empty directory, they a file", {}, {F: {}}, {F: "your@2"}, {F: {}, G: "your"}),
    ("we added a file, they an empty directory", {}, {F: "mine@1"}, {F: {}}, {F: "mine", G: {}}),
    (
        "we changed in a directory, they made it a file",
        {F: {"a": "a", "b": "b"}},
        {F: {"a": "a", "b": "c@2"}},
        {F: "your@1"},
        {F: {"b": "c"}, G: "your"},
    ),
    (
        "we changed in a directory, they made it a newer file",
        {F: {"a": "a", "b": "b"}},
        {F: {"a": "a", "b": "c@2"}},
        {F: "your@3"},
        {F: "your", G: {"b": "c"}},
    ),
    (
        "they changed in a directory, we made it a file",
        {F: {"a": "a", "b": "b"}},
        {F: "mine@2"},
        {F: {"a": "a", "b": "c@1"}},
        {F: "mine", G: {"b": "c"}},
    ),
    (
        "they changed in a directory, we made it an older file",
        {F: {"a": "a", "b": "b"}},
        {F: "mine@2"},
        {F: {"a": "a", "b": "c@3"}},
        {F: {"b": "c"}, G: "mine"},
    ),
    (
        "we changed a file, they made it a directory",
        {F: "old"},
        {F: "mine@2"},
        {F: {"a": "a@1"}},
        {F: "mine", G: {"a": "a"}},
    ),
    (
        "they changed a file, we made it a directory",
        {F: "old"},
        {F: {"a": "a@2"}},
        {F: "your@1"},
        {F: {"a": "a"}, G: "your"},
    ),
]


@pytest.mark.parametrize("marked", [True, False], ids=["fingerprints", "none"])
@pytest.mark.parametrize(("what", "base", "ours", "theirs", "result"), MATRIX, ids=[row[0] for row in MATRIX])
def test_matrix(what: str, base: Tree, ours: Tree, theirs: Tree, result: Tree, marked: bool) -> None:
    assert merged(base, ours, theirs, marked=marked) == result
    below = merged({"x": base, "y": "a"}, {"x": ours, "y": "a"}, {"x": theirs, "y": "b"}, marked=marked)
    assert below == {"x": result, "y": "b"}


def test_a_second_conflict_within_the_second_takes_the_next() -> None:
    ours: Tree = {F: "mine", G: "a"}
    assert merged({}, ours, {F: "your"}) == {F: "mine", G: "a", F + NEXT_SUFFIX: "your"}
    taken = frozenset({(b"d", G.encode())})
    assert merged({"d": {}}, {"d": {F: "mine"}}, {"d": {F: "your"}}, taken=taken) == {
        "d": {F: "mine", F + NEXT_SUFFIX: "your"}
    }
    # a name that only they have is taken too, and so is one that this merge has given
    assert merged({}, {F: "mine"}, {F: "your", G: "b"}) == {F: "mine", G: "b", F + NEXT_SUFFIX: "your"}


def test_conflict_names() -> None:
    assert conflict_name(b"a b.txt", NOW_NS) == b"a b.txt" + SUFFIX.encode()
    assert conflict_name(b"x", 0) == b"x~19700101-000000~conflict~"
    long = conflict_name("é".encode() * 127 + b"x", NOW_NS)
    assert long.endswith(SUFFIX.encode())
    assert 250 <= len(long) <= 255
    long.decode()
    assert conflict_name("€".encode() * 85, NOW_NS) == "€".encode() * 76 + SUFFIX.encode()
    assert len(conflict_name(b"\xff" * 255, NOW_NS)) == len(conflict_name(b"\x80" * 255, NOW_NS)) == 255
    assert len(conflict_name(b"n" * 229, NOW_NS)) == 255
    assert len(conflict_name(b"n" * 230, NOW_NS)) == 255


def test_splits_and_signatures_are_no_change() -> None:
    a = "781e5e245d69b566979b86e28d23f2c7+10"
    whole = FileValue.of([(10, a, 0)], 5)
    assert FileValue.of([(5, a, 0), (5, a, 5)]).segments == whole.segments
    assert whole.same_content(FileValue.of([(5, a + "+Asig@1", 0), (5, a + "+Aother@2", 5)]))
    assert FileValue.of([(1, HOLE, 0), (2, HOLE, 0)]) == FileValue(((3, HOLE, 0),), 3)
    assert not whole.same_content(FileValue.of([(10, a, 1)]))
    assert not whole.same_content(FileValue.of([(9, a, 0)]))
    assert not FileValue.of([(3, LOG, 7)]).same_content(FileValue.of([(3, LOG, 8)]))
    assert (whole.size, whole.changed_ns) == (10, 5)


@pytest.mark.parametrize(
    "effect",
    [Put((b"a", b"\xff\x00"), ((3, "x", 0), (4, HOLE, 0))), Put((b"e",), ()), MakeDir((b"d",)), Delete((b"d", b"e"))],
)
def test_effects_travel_as_json(effect: Effect) -> None:
    assert from_json(json.loads(json.dumps(to_json(effect)))) == effect


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        ["put"],
        ["put", ["a"]],
        ["put", ["a"], [[1, 2]]],
        ["mkdir", ["a"], 1],
        ["x", []],
        ["put", [1], []],
        ["mkdir", ["€"]],
    ],
)
def test_other_json_is_no_effect(bad: object) -> None:
    with pytest.raises(ArgumentError):
        from_json(bad)


def test_trees_may_be_deeper_than_the_stack() -> None:
    def deep(leaf: str) -> Tree:
        tree: Tree = {F: leaf}
        for _ in range(1500):
            tree = {"d": tree}
        return tree

    class Chain:
        """Level by level, since even printing such a dict needs the stack."""

        def __init__(self, tree: Tree) -> None:
            self.tree = tree

        def fingerprint(self) -> None:
            return None

        def files(self) -> Mapping[bytes, FileValue]:
            return {b"f": value(self.tree[F])} if F in self.tree else {}

        def dirs(self) -> Mapping[bytes, View]:
            return {b"d": Chain(self.tree["d"])} if "d" in self.tree else {}

    effects = merge(Chain(deep("old")), Chain(deep("old")), Chain(deep("your")), now_ns=NOW_NS)
    assert [len(effect.path) for effect in effects] == [1501]
    assert len(merge(Chain(deep("old")), Chain(deep("old")), Chain({}), now_ns=NOW_NS)) == 1501
    assert len(merge(Chain({}), Chain({}), Chain(deep("a")), now_ns=NOW_NS)) == 1501
    # release the chains level by level too
    assert merge(Chain({}), Chain(deep("a")), Chain({}), now_ns=NOW_NS) == []


leaves = st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)).map(lambda pair: f"{pair[0]}@{pair[1]}")
trees = st.recursive(
    st.dictionaries(st.sampled_from("xyz"), leaves, max_size=3),
    lambda below: st.dictionaries(st.sampled_from("xyz"), st.one_of(leaves, below), max_size=3),
    max_leaves=9,
)


def contents(tree: Tree, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    for name, entry in tree.items():
        found.update(contents(entry, (*path, name)) if isinstance(entry, dict) else {(*path, name): entry})
    return found


@searching(full=5000)
@given(trees, trees, trees, st.booleans())
def test_nothing_is_lost(base: Tree, ours: Tree, theirs: Tree, marked: bool) -> None:
    result = merged(base, ours, theirs, marked=marked)
    before = contents(bare(base))
    after = contents(result)
    plain = {(*(part.partition("~")[0] for part in path), content) for path, content in after.items()}
    for side in (ours, theirs):
        for path, content in contents(bare(side)).items():
            if before.get(path) != content:
                assert (*path, content) in plain, f"{path} of {side}"
    for path, content in after.items():
        # and nothing is made up: every file is what a side has under the same name
        name = tuple(part.partition("~")[0] for part in path)
        assert content in (contents(bare(ours)).get(name), contents(bare(theirs)).get(name))


@searching(full=5000)
@given(trees, trees, st.booleans())
def test_one_sided_changes(base: Tree, other: Tree, marked: bool) -> None:
    views = {name: DictView(tree, marked=marked) for name, tree in (("base", base), ("other", other))}
    assert merge(views["base"], views["other"], views["base"], now_ns=NOW_NS) == []
    assert merge(views["base"], views["other"], views["other"], now_ns=NOW_NS) == []
    assert merged(base, base, other, marked=marked) == bare(other)


@searching(full=5000)
@given(trees, trees, trees)
def test_fingerprints_change_nothing_but_the_cost(base: Tree, ours: Tree, theirs: Tree) -> None:
    assert merged(base, ours, theirs, marked=True) == merged(base, ours, theirs, marked=False)
