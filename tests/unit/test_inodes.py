"""Which nodes the kernel knows, and how often it was told."""

from __future__ import annotations

import pytest

from arvfuse.errors import StaleNode
from arvfuse.fresh.node import VirtualNode
from arvfuse.inodes import ROOT, Inodes, Numbered


def table() -> tuple[Inodes, VirtualNode, VirtualNode]:
    root, node = VirtualNode(77), VirtualNode(78)
    return Inodes(root), root, node


def test_the_root_is_number_1_and_is_never_forgotten() -> None:
    inodes, root, _ = table()
    assert inodes.find(ROOT) is root
    assert inodes.number(root) == ROOT == 1
    assert inodes.remember(root) == ROOT
    assert inodes.forget([(ROOT, 1), (ROOT, 5)]) == []
    assert inodes.find(ROOT) is root
    inodes.check_invariants()


def test_lookups_add_and_forgets_subtract() -> None:
    inodes, root, node = table()
    numbered: Numbered = node
    for _ in range(3):
        assert inodes.remember(numbered) == 78
    assert inodes.forget([(78, 2)]) == []
    assert inodes.count(78) == 1
    assert inodes.known() == [root, node]
    assert inodes.forget([(78, 1)]) == [node], "to be evicted"
    assert not inodes.knows(78)
    assert len(inodes) == 1
    inodes.check_invariants()


def test_a_number_that_the_kernel_does_not_hold_is_stale() -> None:
    inodes, _, _ = table()
    with pytest.raises(StaleNode):
        inodes.find(78)


def test_too_many_forgets_are_noted_and_drop_the_node(caplog: pytest.LogCaptureFixture) -> None:
    inodes, _, node = table()
    inodes.remember(node)
    assert inodes.forget([(78, 5), (99, 1)]) == [node]
    assert "more often" in caplog.text
    assert repr(inodes) == "<Inodes 1 nodes>"
    inodes.check_invariants()
