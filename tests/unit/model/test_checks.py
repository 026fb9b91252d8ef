"""Check sums of pieces."""

from __future__ import annotations

import pytest
import xxhash

from arvfuse.model.checks import PIECE_BYTES, piece_checks


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
