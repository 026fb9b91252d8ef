"""Texts and indexes as files."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from arvfuse.errors import Damaged
from arvfuse.model.dirindex import build_index
from arvfuse.model.lineindex import encode_lines
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.mapped import index_key, index_name, lines_key, map_file, open_index, open_manifest, write_file

A = "781e5e245d69b566979b86e28d23f2c7+10"
LINE = f". {A} 0:1:a 1:2:b".encode()
TEXT = Path("/somewhere/0123+45")
KEY = index_key(TEXT, (b"d",))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "new" / index_name(TEXT, (b"d",))
    write_file(place, build_index(LINE, (), key=KEY))
    return place


def test_an_index_is_mapped_as_it_was_written(file: Path) -> None:
    index = open_index(file, KEY, verify=True)
    assert [name for name, _ in index.walk()] == [b"a", b"b"]
    assert (index.spec(1).segments(), index.memory_bytes) == ([(2, A, 1)], 0)
    assert file.stat().st_mode & 0o777 == 0o444
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_names_and_keys_differ_by_directory_and_text() -> None:
    keys = {index_key(text, path) for text in (TEXT, Path("other")) for path in ((), (b"a",), (b"a", b"b"), (b"ab",))}
    assert len(keys) == 8
    assert index_name(TEXT, ()).startswith("0123+45.")
    assert index_key(Path("/elsewhere/0123+45"), (b"d",)) == KEY


def test_writing_again_replaces_what_others_have_mapped(file: Path) -> None:
    old = open_index(file, KEY, verify=True)
    write_file(file, build_index(LINE + b" 0:1:c", (), key=KEY))
    assert (len(old), len(open_index(file, KEY, verify=True))) == (2, 3)
    old.verify()


def test_what_is_no_index_of_that_directory_is_damaged(file: Path) -> None:
    good = file.read_bytes()
    with pytest.raises(Damaged, match="another directory"):
        open_index(file, index_key(TEXT, (b"e",)), verify=False)
    for spoiled in (b"", good[:10], good[:-1], good + b"x"):
        file.unlink()
        file.write_bytes(spoiled)
        with pytest.raises(Damaged):
            open_index(file, KEY, verify=False)
    file.write_bytes(good[:-1] + b"\xff")
    open_index(file, KEY, verify=False)
    with pytest.raises(Damaged, match="check"):
        open_index(file, KEY, verify=True)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        open_index(file, KEY, verify=False)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_file(tmp_path / "taken", b"x")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_only_long_texts_are_mapped(tmp_path: Path) -> None:
    place = tmp_path / "text"
    place.write_bytes(LINE + b"\n")
    assert map_file(place) == LINE + b"\n"
    manifest = open_manifest(place)
    assert (manifest.origin, manifest.text) == (str(place), LINE + b"\n")
    place.write_bytes((LINE + b" 0:1:x" * 20_000) + b"\n")
    assert isinstance(map_file(place), mmap.mmap)
    assert open_manifest(place).is_big(())


def test_a_text_is_opened_by_its_line_index(tmp_path: Path) -> None:
    text, lines = tmp_path / "text", tmp_path / "text.lines"
    text.write_bytes(LINE + b"\n")
    write_file(lines, encode_lines(Manifest(text.read_bytes()).lines, text.read_bytes(), lines_key(text)))
    for verify in (False, True):
        opened = open_manifest(text, lines, verify=verify)
        assert (opened.origin, list(opened.listing(()).files)) == (str(text), [b"a", b"b"])
    with pytest.raises(Damaged, match="another text"):
        open_manifest(lines, lines)
    text.write_bytes(LINE.replace(b":b", b":c") + b"\n")
    with pytest.raises(Damaged, match="its text is another"):
        open_manifest(text, lines, verify=True)
    text.write_bytes(LINE)
    with pytest.raises(Damaged, match="bytes of text"):
        open_manifest(text, lines)
