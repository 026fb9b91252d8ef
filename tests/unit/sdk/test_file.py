"""File handles."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import ArgumentError, InvalidPath
from arvfuse.sdk.collection import Collection
from arvfuse.sdk.file import CHUNK_BYTES, READ_BYTES, ArvadosFileReader, ArvadosFileWriter, open_text
from tests.support.hosts import make_host


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    host = make_host(tmp_path)
    yield Collection(host=host)
    host.close()


def put(collection: Collection, name: str, data: bytes) -> None:
    with collection.open(name, "wb") as handle:
        handle.write(data)


def test_reading(collection: Collection) -> None:
    put(collection, "d/f", b"0123456789")
    handle = collection.open("d/f", "rb")
    assert isinstance(handle, ArvadosFileReader)
    assert not isinstance(handle, ArvadosFileWriter)
    assert (handle.name, handle.mode, handle.stream_name(), handle.size()) == ("f", "rb", "./d", 10)
    assert (handle.readable(), handle.writable(), handle.seekable()) == (True, False, True)
    assert (handle.read(3), handle.tell(), handle.read(0), handle.read(None), handle.read(1)) == (
        b"012", 3, b"", b"3456789", b"",
    )  # fmt: skip
    assert (handle.readfrom(2, 3), handle.readfrom(8, 10), handle.tell()) == (b"234", b"89", 10)
    assert (handle.seek(-4, os.SEEK_END), handle.seek(1, os.SEEK_CUR), handle.read()) == (6, 7, b"789")
    assert (handle.seek(100), handle.read()) == (100, b"")
    buffer = bytearray(4)
    assert (handle.seek(8), handle.readinto(buffer), buffer) == (8, 2, b"89\0\0")
    for position, whence in ((-1, os.SEEK_SET), (-11, os.SEEK_END)):
        with pytest.raises(InvalidPath):
            handle.seek(position, whence)
    with pytest.raises(ArgumentError):
        handle.seek(0, 9)
    assert handle.tell() == 10
    assert handle.arvadosfile is collection["d"]["f"]


def test_a_closed_handle_answers_little(collection: Collection) -> None:
    put(collection, "f", b"abc")
    with collection.open("f", "r+b") as handle:
        handle.read(2)
    assert (handle.closed, handle.tell(), handle.size(), handle.name) == (True, 2, 3, "f")
    handle.close()
    for call in (handle.read, handle.flush, handle.readline, handle.truncate, lambda: handle.seek(0),
                 lambda: handle.write(b"x"), lambda: iter(handle), lambda: handle.readfrom(0, 1),
                 handle.__enter__):  # fmt: skip
        with pytest.raises(ValueError, match="closed file"):
            call()
    assert "closed at 2" in repr(handle)


def test_lines_are_bytes(collection: Collection) -> None:
    text = b"one\n\xc3\xa4\n\n" + b"x" * 70_000 + b"\nlast"
    put(collection, "f", text)
    assert list(collection.open("f", "rb")) == text.splitlines(keepends=True)
    handle = collection.open("f", "rb")
    assert (handle.readline(2), handle.readline(), handle.readline(-1)) == (b"on", b"e\n", b"\xc3\xa4\n")
    assert handle.readlines(5) == [b"\n", b"x" * 70_000 + b"\n"]
    assert (handle.readlines(), handle.readline()) == ([b"last"], b"")


def test_parts_and_compressed_files(collection: Collection) -> None:
    text = b"0123456789" * 1000
    put(collection, "plain", text)
    put(collection, "a.gz", gzip.compress(text) + gzip.compress(b"more"))
    put(collection, "a.bz2", bz2.compress(text) + bz2.compress(b"more"))
    handle = collection.open("plain", "rb")
    assert [len(part) for part in handle.readall(4000)] == [4000, 4000, 2000]
    assert READ_BYTES == 1 << 20
    for name, whole in (("plain", text), ("a.gz", text + b"more"), ("a.bz2", text + b"more")):
        assert b"".join(collection.open(name, "rb").readall_decompressed(100)) == whole


def test_writing(collection: Collection) -> None:
    handle = collection.open("f", "wb")
    assert isinstance(handle, ArvadosFileWriter)
    assert (handle.readable(), handle.writable()) == (False, True)
    with pytest.raises(io.UnsupportedOperation):
        handle.read()
    assert (handle.write(b"abc"), handle.write("äö"), handle.tell()) == (3, 4, 7)
    assert handle.write(memoryview(b"xyz").cast("B")) == 3
    handle.writelines([b"1", "2"])
    assert (handle.truncate(5), handle.tell(), handle.size()) == (5, 12, 5)
    handle.seek(2)
    assert (handle.truncate(), handle.size(), handle.truncate(-3), handle.size()) == (2, 2, 0, 0)
    handle.seek(3)
    handle.write(b"z")
    handle.flush()
    handle.fsync()
    handle.close()
    assert collection.open("f", "rb").read() == b"\0\0\0z"
    assert CHUNK_BYTES == 64 << 20


def test_appending_goes_to_the_end_as_it_is_then(collection: Collection) -> None:
    put(collection, "f", b"abc")
    one, other = collection.open("f", "ab"), collection.open("f", "a+b")
    assert (one.tell(), other.tell()) == (3, 3)
    one.write(b"1")
    other.seek(0)
    other.write(b"2")
    one.write(b"3")
    assert (other.seek(0), other.read(), one.tell()) == (0, b"abc123", 6)


def test_text(collection: Collection) -> None:
    with collection.open("f", "w") as handle:
        assert isinstance(handle, io.TextIOWrapper)
        handle.write("zwölf\n")
        handle.write("dreizehn\n")
    assert collection.open("f", "rb").read() == "zwölf\ndreizehn\n".encode()
    assert list(collection.open("f")) == ["zwölf\n", "dreizehn\n"]
    with collection.open("f", "r+") as handle:
        assert handle.readline() == "zwölf\n"
        handle.seek(0)
        handle.write("ZW")
    with collection.open("f", "a", encoding="latin-1") as handle:
        handle.write("ö")
    assert collection.open("f", "rb").read() == "ZWölf\ndreizehn\n".encode() + b"\xf6"
    with collection.open("f", "r+") as handle:
        handle.truncate(2)
    assert collection.open("f").read() == "ZW"
    raw = open_text(collection.open("f", "rb"), None)
    assert (raw.name, raw.encoding, raw.read()) == ("f", "utf-8", "ZW")


def test_handles_may_be_shared(collection: Collection) -> None:
    handle = collection.open("f", "w+b")
    threads = [threading.Thread(target=lambda: [handle.write(b"0123456789") for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handle.tell() == 2000
    handle.seek(0)
    assert handle.read() == b"0123456789" * 200
