"""Closing a tree of which nothing is needed in memory: all it holds can be opened again.

Whoever still holds the tree or one of its nodes, as a request that began before, gets StaleNode and looks again; who
keeps trees asks ``retired`` before using one. Threading: any thread.
"""

from __future__ import annotations

from typing import Final

from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import TRIMMED

TREE_BYTES: Final = 5 << 10
"""Memory of a tree that was opened, without its nodes, with what a mount keeps for it; as measured."""


def retire(tree: LiveTree) -> bool:
    """Close the tree for good; False if something is open, changed, or set beside the manifest.

    The caller knows that no open file without a name was in it."""
    with tree.lock:
        nodes = list(tree.root.loaded())
        if tree.retired or tree.dirty or tree.unsettled or tree.is_gated:
            return False
        if any(node.handles or node.mode >= 0 for node in nodes):
            return False
        for node in nodes:
            node.stamp = TRIMMED
        tree.retired = True
    return True
