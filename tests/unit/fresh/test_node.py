"""What nodes tell the kernel."""

from __future__ import annotations

import pytest

from arvfuse.fresh.node import (
    DIRECTORY_BYTES,
    PREFERRED_IO_BYTES,
    Attr,
    Created,
    Entry,
    Listed,
    NumberAllocator,
    Opened,
    Space,
    VirtualNode,
)
from arvfuse.sdk.shared import Numbers


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2), (1 << 20, 2048)])
def test_blocks_are_512_bytes_rounded_up(size: int, blocks: int) -> None:
    attr = Attr(no=2, is_dir=False, mode=0o644, size=size, mtime_ns=0, atime_ns=0, timeout_s=1.0)
    assert attr.blocks == blocks
    assert attr.links == 1


def test_a_directory_has_two_links() -> None:
    attr = Attr(no=2, is_dir=True, mode=0o755, size=DIRECTORY_BYTES, mtime_ns=0, atime_ns=0, timeout_s=1.0)
    assert attr.links == 2
    assert Created(Entry(attr, 1.0), Opened(5)).opened == Opened(handle=5, direct=False)


def test_space_says_what_names_may_be() -> None:
    space = Space(total_bytes=10, free_bytes=5)
    assert (space.name_max, space.block_bytes) == (255, PREFERRED_IO_BYTES)
    assert Listed(b"a", 2, False, 3).cookie == 3


def test_uses_are_counted() -> None:
    numbers: NumberAllocator = Numbers(7)
    node = VirtualNode(numbers.next())
    node.use()
    assert repr(node) == "<VirtualNode 7 uses=1>"
    node.unuse()
    with pytest.raises(AssertionError):
        node.unuse()
