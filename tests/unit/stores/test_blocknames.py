from __future__ import annotations

import pytest

from arvfuse.errors import ArgumentError, InvalidLocator
from arvfuse.stores.blocknames import check_block, clip, digest_and_size, is_digest

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"


def test_digest_and_size_leave_hints_aside() -> None:
    assert digest_and_size(f"{FOO}+3") == (FOO, 3)
    assert digest_and_size(f"{FOO}+3+K@zzzzz") == (FOO, 3)
    with pytest.raises(InvalidLocator):
        digest_and_size(FOO)


def test_is_digest() -> None:
    assert is_digest(FOO)
    assert not is_digest(FOO.upper())
    assert not is_digest(FOO[1:])
    assert not is_digest("")


def test_check_block() -> None:
    check_block(FOO, 0)
    check_block(FOO, 1 << 26)
    for digest, size in ((FOO, -1), (FOO, (1 << 26) + 1), ("../x", 1)):
        with pytest.raises(ArgumentError):
            check_block(digest, size)


def test_clip() -> None:
    assert clip(2, 3, 10) == (2, 5)
    assert clip(8, 3, 10) == (8, 10)
    assert clip(12, 3, 10) == (12, 12)
    with pytest.raises(ArgumentError):
        clip(-1, 3, 10)
    with pytest.raises(ArgumentError):
        clip(1, -3, 10)
