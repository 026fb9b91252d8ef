from __future__ import annotations

import os
import stat

import pytest

from arvfuse.catalogs.manifestfiles import (
    ManifestFiles,
    make_directory,
    pdh_of_stripped,
    stripped_for,
    sync_directory,
)
from arvfuse.errors import ArgumentError, Damaged, NoSuchRecord, ReadOnly, StoreUnavailable
from arvfuse.model.collections import EMPTY_PDH, PDH

TEXT = b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\n"
HINTED = b". d41d8cd98f00b204e9800998ecf8427e+0+Ax@1 0:0:a\n"
NAME = pdh_of_stripped(TEXT)


@pytest.fixture
def files(tmp_path):
    made = ManifestFiles(tmp_path / "manifests")
    made.prepare(0)
    return made


def everything_below(path):
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


def test_hashes_and_stripping():
    assert pdh_of_stripped(b"") == EMPTY_PDH
    assert stripped_for(NAME, TEXT) is TEXT
    assert stripped_for(NAME, HINTED) == TEXT
    with pytest.raises(ArgumentError):
        stripped_for(EMPTY_PDH, TEXT)


def test_a_text_lies_below_three_characters(files, tmp_path):
    files.keep(NAME, memoryview(HINTED))
    assert everything_below(tmp_path) == [f"manifests/{NAME[:3]}/{NAME}"]
    assert files.peek(NAME) == files.place(NAME)
    assert stat.S_IMODE(files.place(NAME).stat().st_mode) == 0o444
    assert files.load(NAME) == TEXT


def test_keeping_again_touches_and_writes_nothing(files):
    files.keep(NAME, TEXT)
    place = files.place(NAME)
    inode = place.stat().st_ino
    os.utime(place, ns=(0, 0))
    files.keep(NAME, TEXT)
    assert place.stat().st_ino == inode
    assert place.stat().st_mtime_ns > 0


@pytest.mark.parametrize("wrong", [TEXT[:-2] + b"b\n", TEXT + b"x", b""])
def test_damage_is_seen_and_repaired_by_the_next_who_keeps_it(files, wrong, tmp_path):
    files.keep(NAME, TEXT)
    place = files.place(NAME)
    place.unlink()
    place.write_bytes(wrong)
    with pytest.raises(Damaged):
        files.load(NAME)
    if len(wrong) != len(TEXT):
        with pytest.raises(Damaged):
            files.peek(NAME)
    files.keep(NAME, TEXT)
    assert files.load(NAME) == TEXT
    assert everything_below(tmp_path) == [f"manifests/{NAME[:3]}/{NAME}"]


def test_a_difference_behind_the_first_mebibyte_is_seen(files):
    text = TEXT * 40_000
    name = pdh_of_stripped(text)
    files.keep(name, text)
    files.place(name).unlink()
    files.place(name).write_bytes(text[:-3] + b"b\n\n")
    files.keep(name, text)
    assert files.load(name) == text


def test_what_is_not_there(files):
    assert files.peek(NAME) is None
    with pytest.raises(NoSuchRecord):
        files.load(NAME)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "0" * 32, "0" * 32 + "+", "G" * 32 + "+1", "0" * 32 + "+1\n"])
def test_names_that_are_no_hash_never_become_paths(files, name):
    for call in (files.place, files.peek, files.load, lambda pdh: files.keep(pdh, b"")):
        with pytest.raises(ArgumentError):
            call(PDH(name))


def test_read_only_refuses(tmp_path):
    with pytest.raises(ReadOnly):
        ManifestFiles(tmp_path, read_only=True).keep(NAME, TEXT)
    assert everything_below(tmp_path) == []


def test_prepare_removes_old_leftovers_only(tmp_path):
    files = ManifestFiles(tmp_path)
    files.prepare(0)
    for name, age_h in (("old", 25), ("young", 23)):
        (tmp_path / "tmp" / name).touch()
        os.utime(tmp_path / "tmp" / name, ns=(0, (100 - age_h) * 3600 * 10**9))
    files.prepare(100 * 3600 * 10**9)
    assert everything_below(tmp_path) == ["tmp/young"]


def test_a_failing_file_system_is_an_outage_and_leaves_nothing(files, tmp_path):
    (tmp_path / "manifests" / NAME[:3]).write_bytes(b"in the way")
    for call in (lambda: files.keep(NAME, TEXT), lambda: files.peek(NAME), lambda: files.load(NAME)):
        with pytest.raises(StoreUnavailable):
            call()
    (tmp_path / "manifests" / NAME[:3]).unlink()
    files.place(NAME).mkdir(parents=True)
    with pytest.raises(StoreUnavailable):
        files.keep(NAME, TEXT)
    assert everything_below(tmp_path) == []


def test_directories_are_made_with_their_parents(tmp_path):
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert sync_directory(tmp_path / "a") is None
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "c")
