"""Facts of block locators."""

from __future__ import annotations

import hashlib

import pytest

from arvfuse.errors import InvalidLocator
from arvfuse.model.locators import BLOCK_BYTES, EMPTY_BLOCK, ZERO_BLOCKS, Locator, strip_token, zero_locator

DIGEST = "781e5e245d69b566979b86e28d23f2c7"
SIGNATURE = "A715fd31f8111894f717eb1003c1b0216799dd9ec@54f5dd1a"
REMOTE = "Rzzzzz-715fd31f8111894f717eb1003c1b0216799dd9ec@54f5dd1b"

GOOD = [
    f"{DIGEST}+10",
    f"{DIGEST}+0",
    f"{DIGEST}+67108864",
    f"{DIGEST}+10+{SIGNATURE}",
    f"{DIGEST}+10+{REMOTE}",
    f"{DIGEST}+10+K@zzzzz",
    f"{DIGEST}+10+K@zzzzz-bi6l4-0123456789abcde",
    f"{DIGEST}+10+K@zzzzz+{SIGNATURE}",
    f"{DIGEST}+10+Z",
    f"{DIGEST}+10+Zfoo+Z-_@9",
    EMPTY_BLOCK,
]

BAD = [
    "",
    DIGEST,
    f"{DIGEST}+",
    f"{DIGEST}+Z+10",
    f"{DIGEST}+10+10",
    f"{DIGEST}+10+z",
    f"{DIGEST}+10+9a",
    f"{DIGEST}+10+Z*",
    f"{DIGEST}+10+",
    f"{DIGEST}+-1",
    f"{DIGEST}+٣",
    f"{DIGEST}+10 ",
    f"{DIGEST}+10\n",
    f"{DIGEST.upper()}+10",
    f"{DIGEST[:31]}+10",
    f"{DIGEST}0+10",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_locator_is_written_as_it_was_read(text: str) -> None:
    locator = Locator.parse(text)
    assert str(locator) == text
    assert locator == Locator.parse(text)
    assert locator.stripped == strip_token(text) == f"{locator.digest}+{locator.size}"


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_locator(text: str) -> None:
    with pytest.raises(InvalidLocator):
        Locator.parse(text)


def test_parts() -> None:
    locator = Locator.parse(f"{DIGEST}+10+K@zzzzz+{SIGNATURE}+Zfoo")
    assert (locator.digest, locator.size) == (DIGEST, 10)
    assert locator.hints == ("K@zzzzz", SIGNATURE, "Zfoo")
    assert locator.signature == SIGNATURE
    assert locator.expires_at_s == 0x54F5DD1A
    assert locator.for_request() == f"{DIGEST}+10+{SIGNATURE}+K@zzzzz+Zfoo"


def test_expiry_takes_one_to_eight_digits_and_signatures_only() -> None:
    assert Locator.parse(f"{DIGEST}+10").expires_at_s is None
    assert Locator.parse(f"{DIGEST}+10+K@12345").expires_at_s is None
    assert Locator.parse(f"{DIGEST}+10+Aabc@f").expires_at_s == 15
    assert Locator.parse(f"{DIGEST}+10+Aabc@123456789").expires_at_s is None
    remote = Locator.parse(f"{DIGEST}+10+{REMOTE}")
    assert remote.expires_at_s == 0x54F5DD1B
    assert remote.signature is None


def test_empty_block() -> None:
    assert hashlib.md5(b"").hexdigest() + "+0" == EMPTY_BLOCK
    assert strip_token(EMPTY_BLOCK) == EMPTY_BLOCK


def test_zero_blocks_are_what_they_say() -> None:
    assert list(ZERO_BLOCKS.values()) == [1 << exponent for exponent in range(27)]
    assert BLOCK_BYTES == max(ZERO_BLOCKS.values()) == 1 << 26
    megabyte = bytes(1 << 20)
    for locator, size in ZERO_BLOCKS.items():
        if size <= 1 << 16 or size == BLOCK_BYTES:
            digest = hashlib.md5()
            for _ in range(max(size >> 20, 1)):
                digest.update(megabyte[:size])
            assert locator == f"{digest.hexdigest()}+{size}"


@pytest.mark.parametrize(
    ("size", "block"),
    [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1 << 26, 1 << 26), ((1 << 25) + 1, 1 << 26), (1 << 40, 1 << 26)],
)
def test_zero_locator_is_the_smallest_that_suffices(size: int, block: int) -> None:
    assert ZERO_BLOCKS[zero_locator(size)] == block
