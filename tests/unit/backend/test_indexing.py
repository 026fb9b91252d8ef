"""Indexes of big directories: made once, beside the text or in the mount's directory, and made again when damaged."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from arvfuse.backend.indexing import Indexing
from arvfuse.errors import InvalidManifest, NoSuchEntry, StoreUnavailable
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.mapped import index_key, open_index, open_manifest
from tests.support.restricted import run_restricted

A = "781e5e245d69b566979b86e28d23f2c7+10"
TEXT = f". {A} 0:1:a\n./d {A} 0:1:x 1:1:y\n".encode()
DIRECTORY = (b"d",)


class Place:
    """A store's text, and a mount's directory."""

    def __init__(self, top: Path, text: bytes = TEXT) -> None:
        self.text = top / "store" / pdh(text)
        self.text.parent.mkdir()
        self.text.write_bytes(text)
        self.own = top / "own"
        self.indexing = Indexing(self.own)

    def names(self, file: Path) -> list[bytes]:
        return [name for name, _ in open_index(file, index_key(self.text, DIRECTORY), verify=True).walk()]


def long_text(*, normal: bool) -> bytes:
    lines = [f"./d{at:04d} {A}" + "".join(f" 0:1:f{each:02}" for each in range(20)) + "\n" for at in range(1500)]
    return "".join(lines if normal else reversed(lines)).encode()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_index_is_made_once_beside_its_text(place: Place) -> None:
    file = place.indexing.index_of(place.text, DIRECTORY)
    assert (file.parent, place.names(file)) == (place.text.parent, [b"x", b"y"])
    inode = file.stat().st_ino
    assert Indexing(place.own).index_of(place.text, DIRECTORY) == file
    assert file.stat().st_ino == inode
    assert place.indexing.index_of(place.text, ()) != file
    assert not place.own.exists()


def test_an_index_that_is_told_of_again_was_used_now(tmp_path: Path) -> None:
    place = Place(tmp_path, long_text(normal=True))
    files = [place.indexing.index_of(place.text, (b"d0000",)), place.indexing.prepared(place.text)[1]]
    for file in files:
        assert file is not None
        os.utime(file, ns=(0, 0))
    again = Indexing(place.own)
    assert [again.index_of(place.text, (b"d0000",)), again.prepared(place.text)[1]] == files
    assert all(file is not None and file.stat().st_mtime_ns > 0 for file in files)


def test_a_damaged_index_is_made_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    file = place.indexing.index_of(place.text, DIRECTORY)
    good = file.read_bytes()
    for spoiled in (b"", good[:50], good[:-1], good[:100] + bytes([good[100] ^ 1]) + good[101:], b"x" * len(good)):
        file.unlink()
        file.write_bytes(spoiled)
        with caplog.at_level(logging.WARNING):
            assert place.indexing.index_of(place.text, DIRECTORY) == file
        assert file.read_bytes() == good
        assert "made again" in caplog.text
        caplog.clear()


def test_where_the_store_cannot_be_written_it_is_the_mounts_own(place: Place) -> None:
    first = place.indexing.index_of(place.text, DIRECTORY)
    first.unlink()
    first.mkdir()  # nothing can be put there, whoever asks
    file = place.indexing.index_of(place.text, DIRECTORY)
    assert (file.parent, place.names(file)) == (place.own, [b"x", b"y"])
    inode = file.stat().st_ino
    assert place.indexing.index_of(place.text, DIRECTORY) == file
    assert file.stat().st_ino == inode


_READ_ONLY = """
import sys
from pathlib import Path
from arvfuse.backend.indexing import Indexing
text, own = map(Path, sys.argv[1:])
indexing = Indexing(own)
print(indexing.index_of(text, (b"d",)).parent, *(file.parent for file in indexing.prepared(text)), sep="\\n")
"""


def test_a_store_that_is_read_only(tmp_path: Path) -> None:
    place = Place(tmp_path, long_text(normal=False) + f"./d {A} 0:1:x 1:1:y\n".encode())
    place.text.parent.chmod(0o555)
    done = run_restricted(_READ_ONLY, place.text, place.own)
    assert (done.returncode, done.stdout.split()) == (0, [str(place.own)] * 3), done.stderr
    assert [file.name for file in place.text.parent.iterdir()] == [place.text.name]
    place.text.parent.chmod(0o755)
    assert place.indexing.index_of(place.text, DIRECTORY).parent == place.own


def test_a_text_that_is_not_the_stores_gets_no_company(tmp_path: Path) -> None:
    place = Place(tmp_path)
    other = place.text.rename(place.text.with_name("content"))
    assert place.indexing.index_of(other, DIRECTORY).parent == place.own


def test_what_cannot_be_indexed(place: Place, tmp_path: Path) -> None:
    with pytest.raises(NoSuchEntry):
        place.indexing.index_of(place.text, (b"e",))
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        place.indexing.index_of(place.text.with_name("0" * 32 + "+5"), ())
    place.own.write_bytes(b"in the way")
    place.indexing.index_of(place.text, DIRECTORY).unlink()
    (place.text.parent / place.indexing.index_of(place.text, DIRECTORY).name).unlink()
    file = place.indexing.index_of(place.text, DIRECTORY)
    file.unlink()
    file.mkdir()
    with pytest.raises(StoreUnavailable, match="no place"):
        place.indexing.index_of(place.text, DIRECTORY)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    files = " ".join(f"0:1:{'name' * 50}{number:05d}" for number in range(5_200))
    place = Place(tmp_path, f"./a {A} {files}\n./d {A} 0:1:a nonsense\n".encode())
    with pytest.raises(InvalidManifest, match="line 2"):
        place.indexing.index_of(place.text, DIRECTORY)


def test_only_some_texts_stay_open(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for number in range(10):
        text = f"./d {A} 0:1:x{number}\n".encode()
        file = place.text.with_name(pdh(text))
        file.write_bytes(text)
        made = place.indexing.index_of(file, DIRECTORY)
        assert [name for name, _ in open_index(made, index_key(file, DIRECTORY), verify=True).walk()] == [
            b"x%d" % number
        ]


@pytest.mark.parametrize("normal", [True, False])
def test_a_long_text_is_opened_without_being_read(tmp_path: Path, normal: bool) -> None:
    place = Place(tmp_path, long_text(normal=normal))
    text, lines = place.indexing.prepared(place.text)
    assert (text == place.text) == normal
    assert text.parent == place.text.parent
    assert lines == text.with_name(f"{text.name}.lines")
    opened = open_manifest(text, lines, verify=True)
    assert (opened.text[:], opened.is_normalized) == (long_text(normal=True), True)
    inodes = [file.stat().st_ino for file in (text, lines)]
    assert Indexing(place.own).prepared(place.text) == (text, lines)
    assert [file.stat().st_ino for file in (text, lines)] == inodes
    made = place.indexing.index_of(text, (b"d0007",))
    assert made.parent == place.text.parent
    assert len(open_index(made, index_key(text, (b"d0007",)), verify=True)) == 20
    assert not place.own.exists()


def test_what_is_damaged_of_a_long_text_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(tmp_path, long_text(normal=False))
    text, lines = place.indexing.prepared(place.text)
    assert lines is not None
    good = [file.read_bytes() for file in (text, lines)]
    for file, spoiled in (
        (text, good[0].replace(b":f01 ", b":F01 ", 1)), (text, good[0][:-100]), (text, b""), (lines, good[1][:-1]),
        (lines, good[1].replace(b"d0007", b"d0008")), (lines, b""),
    ):  # fmt: skip
        file.unlink()
        file.write_bytes(spoiled)
        with caplog.at_level(logging.WARNING):
            assert place.indexing.prepared(place.text) == (text, lines)
        assert [each.read_bytes() for each in (text, lines)] == good
        assert "made again" in caplog.text
        caplog.clear()


def test_short_texts_and_those_without_a_place_are_scanned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "short").mkdir()
    short = Place(tmp_path / "short")
    assert short.indexing.prepared(short.text) == (short.text, None)
    place = Place(tmp_path, long_text(normal=True))
    place.own.write_bytes(b"in the way")
    place.text.with_name(f"{place.text.name}.lines").mkdir()
    with caplog.at_level(logging.WARNING):
        assert place.indexing.prepared(place.text) == (place.text, None)
    assert "no place" in caplog.text


def test_a_long_text_that_cannot_be_understood(tmp_path: Path) -> None:
    place = Place(tmp_path, long_text(normal=True) + b"nonsense\n")
    with pytest.raises(InvalidManifest, match="line 1501"):
        place.indexing.prepared(place.text)
