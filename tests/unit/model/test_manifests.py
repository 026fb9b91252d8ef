"""The lazy manifest."""

from __future__ import annotations

import mmap

import pytest

from arvfuse.errors import InvalidManifest, NoSuchEntry
from arvfuse.model.manifests import SMALL_BYTES, SMALL_CHILDREN, Listing, Manifest
from arvfuse.model.scanning import STRICT_BYTES

A = "781e5e245d69b566979b86e28d23f2c7+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"
TREE = (
    f". {A} 0:1:f\n./a {A} 0:2:x 2:2:y\n./a/b/c {A} 0:10:deep\n"
    + f"./a-b {A} 0:3:z\n./e {Z} 0:0:\\056\n./z\\040z {A} 0:4:w\n"
)


def tree() -> Manifest:
    return Manifest(TREE.encode())


FILES = " ".join(f"0:1:{'name' * 50}{number:05d}" for number in range(5_200))


def big(line: str) -> bytes:
    """A text above the limit of strict checking, with *line* as its last."""
    text = f"./a {A} {FILES}\n./b {A} 0:1:f\n./c {A} 0:1:f\n{line}".encode()
    assert len(text) > STRICT_BYTES
    return text


def test_listings() -> None:
    manifest = tree()
    assert manifest.is_normalized
    root = manifest.listing(())
    assert isinstance(root, Listing)
    assert (list(root.files), list(root.dirs)) == ([b"f"], [b"a", b"a-b", b"e", b"z z"])
    below = manifest.listing((b"a",))
    assert {name: spec.size for name, spec in below.files.items()} == {b"x": 2, b"y": 2}
    assert below.files[b"y"].segments() == [(2, A, 2)]
    assert list(below.dirs) == [b"b"]
    assert manifest.listing((b"a", b"b")) == ({}, [b"c"])
    assert manifest.listing((b"e",)) == ({}, [])
    assert manifest.totals() == (6, 22)


def test_directories_as_indexes() -> None:
    manifest = tree()
    for path in ((), (b"a",), (b"a", b"b"), (b"e",)):
        index, listing = manifest.index(path), manifest.listing(path)
        assert [name for name, is_dir in index.walk() if is_dir] == list(listing.dirs)
        files = {index.name(at): index.spec(at) for at in range(len(index)) if not index.is_dir(at)}
        assert {name: spec.segments() for name, spec in files.items()} == {
            name: spec.segments() for name, spec in listing.files.items()
        }
    assert manifest.index_bytes((b"a",), bytes(range(16)))[32:48] == bytes(range(16))
    assert (manifest.origin, Manifest(b"", "there").origin) == ("", "there")


def test_what_is_big() -> None:
    manifest = Manifest(big(f"./d {A} 0:1:f\n" + "".join(f"./d/{at:04} {A} 0:1:f\n" for at in range(SMALL_CHILDREN))))
    assert len(manifest.line((b"a",)) or b"") > SMALL_BYTES
    assert [manifest.is_big(path) for path in ((b"a",), (b"b",), (), (b"d",))] == [True, False, False, False]
    more = Manifest("".join(f"./d/{at:04}/e {A} 0:1:f\n" for at in range(SMALL_CHILDREN + 1)).encode())
    assert [more.is_big(path) for path in ((b"d",), (), (b"d", b"0001"))] == [True, False, False]


@pytest.mark.parametrize("path", [(b"nope",), (b"a", b"x"), (b"a", b"b", b"c", b"d"), (b"zzz",), (b"f",)])
def test_what_is_no_directory(path: tuple[bytes, ...]) -> None:
    manifest = tree()
    assert not manifest.has_directory(path)
    assert manifest.line(path) is None
    with pytest.raises(NoSuchEntry):
        manifest.listing(path)
    with pytest.raises(NoSuchEntry):
        manifest.subtree(path)
    with pytest.raises(NoSuchEntry):
        manifest.index(path)


def test_lines_and_subtrees() -> None:
    manifest = tree()
    assert bytes(manifest.subtree(())) == TREE.encode()
    assert bytes(manifest.subtree((b"a",))) == f"./a {A} 0:2:x 2:2:y\n./a/b/c {A} 0:10:deep\n".encode()
    assert bytes(manifest.subtree((b"a", b"b"))) == f"./a/b/c {A} 0:10:deep\n".encode()
    assert bytes(manifest.line((b"a",)) or b"") == f"./a {A} 0:2:x 2:2:y\n".encode()
    assert manifest.line((b"a", b"b")) is None
    assert manifest.has_directory((b"a", b"b"))
    assert manifest.has_directory((b"z z",))
    assert manifest.has_directory(())


def test_the_empty_collection() -> None:
    manifest = Manifest(b"")
    assert manifest.is_normalized
    assert manifest.has_directory(())
    assert manifest.listing(()) == ({}, [])
    assert bytes(manifest.subtree(())) == b""
    assert manifest.line(()) is None
    assert manifest.totals() == (0, 0)
    assert repr(manifest) == "<Manifest 0 bytes, 0 lines, normalized=True>"


def test_a_text_that_is_not_normal_is_rewritten_and_kept() -> None:
    text = f". {A} 0:10:foo/bar\n./a {A} 0:1:x\n".encode()
    manifest = Manifest(text)
    assert not manifest.is_normalized
    assert manifest.text is text
    assert bytes(manifest.subtree(())) == f"./a {A} 0:1:x\n./foo {A} 0:10:bar\n".encode()
    assert list(manifest.listing((b"foo",)).files) == [b"bar"]


def test_a_mapped_file_and_a_view(tmp_path) -> None:
    path = tmp_path / "text"
    path.write_bytes(TREE.encode())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    manifest = Manifest(mapped)
    assert manifest.text is mapped
    assert manifest.totals() == Manifest(memoryview(TREE.encode())).totals() == (6, 22)
    assert manifest.subtree((b"e",)).readonly


def test_many_directories_are_skipped_by_bisection() -> None:
    lines = [f". {A} 0:1:f\n"]
    for outer in range(20):
        lines += [f"./d{outer:02d}/{inner:03d} {A} 0:1:f\n" for inner in range(outer * 3 + 1)]
    manifest = Manifest("".join(lines).encode())
    assert manifest.is_normalized
    assert list(manifest.listing(()).dirs) == [b"d%02d" % outer for outer in range(20)]
    for outer in range(20):
        path = (b"d%02d" % outer,)
        assert len(manifest.listing(path).dirs) == outer * 3 + 1
        assert len(bytes(manifest.subtree(path)).splitlines()) == outer * 3 + 1


@pytest.mark.parametrize(
    "line",
    [
        f"./d {A} 0:1:e/f\n",
        f"./d {A} 0:1:e\\057f\n",
        f"./d {A} 0:1:\\400\n",
        f"./d {A} 0:0:\\056 0:1:f\n",
        f"./d {A}  0:1:f\n",
        f"./d {A} 0:1:f \n",
        f"./b {A} 0:1:more\n",
        f"./Z {A} 0:1:f\n",
        f"d {A} 0:1:f\n",
        f"./d\\057e {A} 0:1:f\n",
        f"./d {Z} 0:0:\\056\n./d/e {A} 0:1:f\n",
        f". {Z} 0:0:\\056\n",
    ],
)
def test_structure_of_big_texts_is_checked_on_opening(line: str) -> None:
    manifest = Manifest(big(line))
    assert not manifest.is_normalized
    assert Manifest(bytes(manifest.subtree(()))).is_normalized


@pytest.mark.parametrize(
    "line", [f"./d {A}\n", "./d\n", "\n", f"./d {A}\t0:1:f\n", f"./d {A} 0:1:f {A}\n", f"./a/x\\056 {A} 1:2\n"]
)
def test_errors_of_big_texts_are_found_at_last_when_listed(line: str) -> None:
    text = big(line)
    with pytest.raises(InvalidManifest, match=r"line [45]: "):
        Manifest(text).totals()


def test_a_collision_in_a_big_text_is_found_when_listed() -> None:
    text = big(f"./d {A} 0:1:e\n./d/e {A} 0:1:f\n")
    manifest = Manifest(text)
    assert manifest.is_normalized
    with pytest.raises(InvalidManifest, match=r"line 4: .*is a file and a directory"):
        manifest.listing((b"d",))


def test_big_texts_with_placeholders_and_escapes_are_normal() -> None:
    manifest = Manifest(big(f"./d {Z} 0:0:\\056\n./e\\040e {A} 0:1:x\\040y 1:1:a\n"))
    assert manifest.is_normalized
    assert list(manifest.listing((b"e e",)).files) == [b"a", b"x y"]
    assert manifest.listing((b"d",)) == ({}, [])
