"""Any tree can be written as a manifest and read back; any order of lines and tokens means the same tree."""

from __future__ import annotations

import hashlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import InvalidManifest
from arvfuse.model.escapes import escape
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import normalize
from arvfuse.model.rendering import move_lines, render_line, render_placeholder
from arvfuse.model.savecheck import check_for_save
from tests.support.profiles import searching

Part = tuple[int, str, int]
Tree = dict[bytes, "Tree | list[Part]"]

BLOCKS = {hashlib.md5(bytes([n]) * n).hexdigest() + f"+{n}": n for n in range(3, 9)}

names = st.one_of(
    st.sampled_from([b"a", b"a-b", b"a.b", b"b", "é".encode(), b"x y", b"c:d", b"\\040", b"\xff", b"..."]),
    st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name and name not in (b".", b"..")),
)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    locator = draw(st.sampled_from(sorted(BLOCKS)))
    offset = draw(st.integers(0, BLOCKS[locator] - 1))
    return draw(st.integers(1, BLOCKS[locator] - offset)), locator, offset


files = st.lists(parts(), max_size=4)
trees = st.recursive(
    st.dictionaries(names, files, max_size=4),
    lambda below: st.dictionaries(names, st.one_of(files, below), max_size=4),
    max_leaves=8,
)


def joined(segments: list[Part]) -> list[Part]:
    result: list[Part] = []
    for length, ref, offset in segments:
        if result and result[-1][1] == ref and result[-1][2] + result[-1][0] == offset:
            result[-1] = (result[-1][0] + length, ref, result[-1][2])
        else:
            result.append((length, ref, offset))
    return result


def rendered(tree: Tree, path: tuple[bytes, ...] = ()) -> list[bytes]:
    own = [(name, entry) for name, entry in tree.items() if isinstance(entry, list)]
    lines = [render_line(path, own, "")] if own else [] if tree else [render_placeholder(path)]
    for name in sorted(name for name, entry in tree.items() if isinstance(entry, dict)):
        lines += rendered(tree[name], (*path, name))
    return lines


def read(manifest: Manifest, path: tuple[bytes, ...] = ()) -> Tree:
    listing = manifest.listing(path)
    assert list(listing.files) == sorted(listing.files)
    assert list(listing.dirs) == sorted(listing.dirs)
    tree: Tree = {name: spec.segments() for name, spec in listing.files.items()}
    for name, spec in listing.files.items():
        assert sum(length for length, _, _ in tree[name]) == spec.size
    for name in listing.dirs:
        assert manifest.has_directory((*path, name))
        tree[name] = read(manifest, (*path, name))
    return tree


def expected(tree: Tree) -> Tree:
    return {name: joined(entry) if isinstance(entry, list) else expected(entry) for name, entry in tree.items()}


@searching(full=5000)
@given(trees)
def test_what_is_written_is_normal_and_comes_back(tree: Tree) -> None:
    text = b"".join(rendered(tree))
    check_for_save(text)
    manifest = Manifest(text)
    assert manifest.is_normalized
    assert read(manifest) == expected(tree)
    assert normalize(text) == text
    assert bytes(manifest.subtree(())) == text


@searching(full=5000)
@given(trees, st.randoms(use_true_random=False))
def test_shuffled_lines_with_paths_for_names_mean_the_same(tree: Tree, random) -> None:
    text = b"".join(rendered(tree))
    lines = [line + b"\n" for line in text.split(b"\n")[:-1]]
    random.shuffle(lines)
    shuffled = b"".join(lines)
    assert normalize(shuffled) == text
    assert read(Manifest(shuffled)) == expected(tree)
    flat = []
    for path, segments in walk(tree):
        name = escape(b"/".join(path))
        if segments is None:
            flat.append(b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:%s/\\056\n" % name)
        else:
            for length, ref, offset in segments:
                flat.append(b". %s %d:%d:%s\n" % (ref.encode(), offset, length, name))
            if not segments:
                flat.append(b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:%s\n" % name)
    assert normalize(b"".join(flat)) == text


def walk(tree: Tree, path: tuple[bytes, ...] = ()):
    for name, entry in tree.items():
        if isinstance(entry, list):
            yield (*path, name), entry
        else:
            if not entry:
                yield (*path, name), None
            yield from walk(entry, (*path, name))


@searching(full=5000)
@given(trees, names)
def test_a_subtree_moves_with_its_lines(tree: Tree, name: bytes) -> None:
    moved = move_lines(Manifest(b"".join(rendered(tree))).subtree(()), (), (name,))
    assert moved == (b"".join(rendered({name: tree})) if tree else b"")
    assert move_lines(moved, (name,), ()) == b"".join(rendered(tree))
    manifest = Manifest(moved)
    for path, successor in pairwise(sorted({p[:k] for p, _ in walk({name: tree}) for k in range(len(p))})):
        assert path < successor
        assert bytes(manifest.subtree(successor)) in moved


@searching(full=5000)
@given(st.binary(max_size=60))
def test_garbage_is_refused_or_understood_and_nothing_else(text: bytes) -> None:
    try:
        normal = normalize(text)
    except InvalidManifest:
        return
    assert normalize(normal) == normal
