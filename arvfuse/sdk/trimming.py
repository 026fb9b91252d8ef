"""Giving back the memory of directories that are not needed: they are read again when somebody asks for them.

A directory can be trimmed if its text stands in a manifest, nothing in it is open, and the kernel knows none of its
entries. After a commit ``settle_on`` lets the directories that were changed before it say so too. A node that somebody
held on to all the same (a look-up whose answer is on its way) is marked: whoever comes with it gets StaleNode and looks
again. Takes the tree's lock for one directory at a time, so requests go on. Threading: any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from arvfuse.model.manifests import Manifest
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import TRIMMED, DirNode, FileNode, Node

NODE_BYTES: Final = 450
"""Memory of one node with its name, as measured; a file whose segments were asked for has 330 more."""


def trim(tree: LiveTree, known: Callable[[int], bool]) -> int:
    """Forget what *tree* can read again; *known* tells the numbers that the kernel holds. How many nodes went."""
    with tree.lock:
        nodes = list(tree.root.loaded())
        tree.loaded = len(nodes)
        directories = [node for node in nodes[1:] if isinstance(node, DirNode) and node.entries]
    gone = 0
    for directory in reversed(directories):  # those below come behind those above in *nodes*
        with tree.lock:
            if _can_go(directory, known):
                assert directory.entries is not None
                for node in directory.entries.values():
                    node.stamp = TRIMMED
                gone += len(directory.entries)
                directory.entries = None
    with tree.lock:
        tree.loaded = max(0, tree.loaded - gone)
    return gone


def settle_on(tree: LiveTree, manifest: Manifest) -> bool:
    """*manifest* is the text of the tree's newest commit: what was changed before it can be read from there now.

    False if something changed since, or still refers to log or spool."""
    with tree.lock:
        if tree.dirty or tree.unsettled:
            return False
        stack: list[tuple[DirNode, tuple[bytes, ...]]] = [(tree.root, ())]
        while stack:
            directory, path = stack.pop()
            directory.source = (manifest, path)
            directory.files_changed = directory.below_changed = False
            for name, node in (directory.entries or {}).items():
                if isinstance(node, DirNode):
                    stack.append((node, (*path, name)))
                else:
                    node.changed_seq = 0
        return True


def _can_go(directory: DirNode, known: Callable[[int], bool]) -> bool:
    if directory.entries is None or directory.source is None or directory.handles:
        return False
    if directory.files_changed or directory.below_changed or directory.stamp == TRIMMED:
        return False
    return all(_is_plain(node) and not known(node.no) for node in directory.entries.values())


def _is_plain(node: Node) -> bool:
    """Whether the manifest says all there is to say about a node."""
    if node.handles or node.mode >= 0:
        return False
    return not node.changed_seq if isinstance(node, FileNode) else node.entries is None
