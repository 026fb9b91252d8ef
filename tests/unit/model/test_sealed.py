"""Headers and checks of files that can be made again."""

from __future__ import annotations

import random

import pytest

from arvfuse.errors import Damaged
from arvfuse.model.sealed import HEADER, KEY_BYTES, seal, unseal, verify

MAGIC = b"arvfstst"
KEY = bytes(range(KEY_BYTES))
PARTS = (b"one", bytearray(b"two"), memoryview(b"three"))
FILE = seal(MAGIC, 3, KEY, PARTS)


def checked(data: bytes) -> None:
    unseal(data, MAGIC, 3)
    verify(data)


def test_what_was_sealed_is_told_by_its_header() -> None:
    assert FILE[HEADER.size :] == b"onetwothree"
    assert unseal(FILE, MAGIC, 3) == KEY
    verify(FILE)
    verify(seal(MAGIC, 3, KEY, (bytes(3 << 20),)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (FILE[: HEADER.size - 1], "47 bytes"),
        (FILE[:-1], "58 bytes instead of 59"),
        (FILE + b"x", "60 bytes instead of 59"),
        (b"other" + FILE[5:], "begins with b'othertst'"),
        (seal(MAGIC, 4, KEY, PARTS), "version 4"),
    ],
)
def test_what_the_header_shows(data: bytes, said: str) -> None:
    with pytest.raises(Damaged, match=said):
        unseal(data, MAGIC, 3)


def test_a_changed_bit_is_found() -> None:
    chosen = random.Random(7)
    for at in (*range(8), *range(16, len(FILE))):
        spoiled = bytearray(FILE)
        spoiled[at] ^= 1 << chosen.randrange(8)
        with pytest.raises(Damaged):
            checked(bytes(spoiled))
