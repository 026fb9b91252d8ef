"""Numbers to nodes, and what the kernel is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import StaleNode
from arvfuse.fusedir.known import Known
from arvfuse.operations import Operations
from tests.support.engines import Mounted


def test_the_kernel_knows_what_it_was_told_of_until_it_forgets_it(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    assert issubclass(Operations, Known)
    known: Known = mounted.ops
    mounted.engine.new_collection("c")
    number = mounted.walk(b"home", b"c")
    assert known.knows(number)
    assert known.host.inodes.number(known.root) == 1
    known.forget([(number, known.host.inodes.count(number))])
    assert not known.knows(number)
    with pytest.raises(StaleNode):
        mounted.ops.getattr(number)
    assert mounted.walk(b"home", b"c") == number, "and again"
    mounted.close()
