"""Check sums of pieces."""

from __future__ import annotations

import hashlib

import pytest
import xxhash

from arvfuse.model.checks import PIECE_BYTES, BlockHasher, piece_checks


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_eight_bytes_for_each_piece(length: int) -> None:
    data = (bytes(range(251)) * (length // 251 + 1))[:length]
    expected = b"".join(
        xxhash.xxh3_64_intdigest(data[at : at + PIECE_BYTES]).to_bytes(8, "big") for at in range(0, length, PIECE_BYTES)
    )
    assert PIECE_BYTES == 65536
    assert piece_checks(data) == expected
    assert piece_checks(memoryview(bytearray(data))) == expected


def test_a_flipped_bit_changes_the_check_of_its_piece_only() -> None:
    data = bytearray(2 * PIECE_BYTES)
    before = piece_checks(data)
    data[PIECE_BYTES] ^= 1
    after = piece_checks(data)
    assert after[:8] == before[:8]
    assert after[8:] != before[8:]


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 400_000])
@pytest.mark.parametrize("portion", [1 << 20, PIECE_BYTES, PIECE_BYTES - 1, PIECE_BYTES + 1, 3 * PIECE_BYTES, 1000])
def test_a_block_may_be_fed_in_portions_of_any_length(length: int, portion: int) -> None:
    data = (bytes(range(251)) * (length // 251 + 1))[:length]
    hasher = BlockHasher()
    for at in range(0, length, portion):
        hasher.update(memoryview(data)[at : at + portion])
    assert (hasher.digest(), hasher.size) == (hashlib.md5(data).hexdigest(), length)
    assert hasher.checks() == piece_checks(data) == hasher.checks()


def test_a_hasher_goes_on_after_it_was_asked() -> None:
    hasher = BlockHasher()
    for length in (10, 0, PIECE_BYTES, PIECE_BYTES - 20, 5, 5, 1):
        hasher.update(bytearray(length))
        assert hasher.checks() == piece_checks(bytes(hasher.size))
    assert hasher.size == 2 * PIECE_BYTES + 1
