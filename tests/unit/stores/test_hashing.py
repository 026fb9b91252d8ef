from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.model.checks import piece_checks
from arvfuse.stores.hashing import CHUNK_BYTES, Hashed, hash_file, read_into, same_content, write_all
from tests.support.stores import md5, noise


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 70_000])
def test_hash_and_compare_files(tmp_path: Path, size: int) -> None:
    data = noise(size)
    (tmp_path / "f").write_bytes(data)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        assert hash_file(fd) == Hashed(md5(data), size, piece_checks(data))
        assert same_content(fd, size, lambda at, length: data[at : at + length])
        assert not same_content(fd, size + 1, lambda at, length: bytes(length))
        if size:
            other = data[:-1] + bytes([data[-1] ^ 1])
            assert not same_content(fd, size, lambda at, length: other[at : at + length])
    finally:
        os.close(fd)


def test_write_all_and_read_into(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    try:
        write_all(fd, memoryview(b"foobar"), 2)
        buffer = bytearray(10)
        assert read_into(fd, memoryview(buffer), 0) == 8
        assert buffer == b"\0\0foobar\0\0"
        assert read_into(fd, memoryview(buffer)[:3], 2) == 3
        assert buffer[:3] == b"foo"
    finally:
        os.close(fd)
