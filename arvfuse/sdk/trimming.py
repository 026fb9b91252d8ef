"""Giving back the memory of nodes that are not needed: they are made again when somebody asks for them.

A node goes if it says no more than its directory's index, is not open, and the kernel does not know it; the index of a
directory goes when no node of it is left, and what is changed there is in a manifest. After a commit ``settle_on`` lets
the directories that were changed before it say so too; one that keeps some nodes gets the index of what is there now. A
node that somebody held on to all the same (a look-up whose answer is on its way) is marked: whoever comes with it gets
StaleNode and looks again. Takes the tree's lock for some nodes at a time, so requests go on. Threading: any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from arvfuse.model.dirindex import DirectoryIndex
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import TRIMMED, DirNode, FileNode, Node, Path
from arvfuse.sdk.tree import index_weight

IndexOf = Callable[[tuple[Manifest, Path]], DirectoryIndex | None]

_SLICE: Final = 512  # nodes looked at before others may have the lock
_MANY: Final = 500  # nodes that are worth a new index


def trim(tree: LiveTree, known: Callable[[int], bool], index_of: IndexOf | None = None) -> int:
    """Forget what *tree* can make again; *known* tells the numbers that the kernel holds. How many nodes went.

    *index_of* gets the index of a directory that changed since it was read and is clean now, and may wait; None if it
    cannot. Without it such a directory goes as a whole or not at all."""
    directories = [tree.root]
    for directory in directories:  # grows meanwhile
        with tree.lock:
            entries = directory.entries
            nodes = list(entries.nodes.values()) if entries is not None else []
        directories.extend(node for node in nodes if isinstance(node, DirNode))
    gone = left = 0
    for directory in reversed(directories):  # those below come behind those above
        gone += _in_slices(tree, directory, known, _forget)
        with tree.lock:
            entries = directory.entries
            if entries is not None and directory is not tree.root and _can_go(directory, known):
                for node in entries.nodes.values():
                    node.stamp = TRIMMED
                gone += len(entries.nodes)
                directory.entries = None
        if index_of is not None and _rebase(tree, directory, index_of):
            gone += _in_slices(tree, directory, known, _give_back)
        with tree.lock:
            if directory.entries is not None:
                left += index_weight(directory.entries.index) + len(directory.entries.nodes)
    with tree.lock:
        tree.loaded = left
    return gone


def _in_slices(
    tree: LiveTree, directory: DirNode, known: Callable[[int], bool],
    drop: Callable[[DirNode, list[bytes], Callable[[int], bool]], int],
) -> int:  # fmt: skip
    with tree.lock:
        names = list(directory.entries.nodes) if directory.entries is not None else []
    gone = 0
    for start in range(0, len(names), _SLICE):
        with tree.lock:
            gone += drop(directory, names[start : start + _SLICE], known)
    return gone


def _rebase(tree: LiveTree, directory: DirNode, index_of: IndexOf) -> bool:
    """Put the index of what is there now under a directory that has many nodes of its own; True if it has that."""
    with tree.lock:
        entries, source = directory.entries, directory.source
        if entries is None or source is None or directory.files_changed or not entries.own:
            return False
        if entries.source is source:
            return True
        if entries.own < _MANY:
            return False
    index = index_of(source)
    with tree.lock:
        if directory.entries is not entries or directory.source is not source or directory.files_changed:
            return False
        if index is None or len(index) != len(entries):
            return False
        entries.rebase(index, first=tree.shared.numbers.take(len(index)), mtime_ns=directory.mtime_ns)
    return True


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
            nodes = directory.entries.nodes if directory.entries is not None else {}
            for name, node in nodes.items():
                if isinstance(node, DirNode):
                    stack.append((node, (*path, name)))
                else:
                    node.changed_seq = 0
        return True


def _forget(directory: DirNode, names: list[bytes], known: Callable[[int], bool]) -> int:
    """Drop what the index can say as well; how many nodes."""
    entries = directory.entries
    if entries is None:
        return 0
    gone = 0
    for name in names:
        node = entries.nodes.get(name)
        if node is not None and _is_plain(node) and not known(node.no) and not entries.is_own(name):
            entries.forget(name)
            node.stamp = TRIMMED
            gone += 1
    return gone


def _give_back(directory: DirNode, names: list[bytes], known: Callable[[int], bool]) -> int:
    """After `_rebase`: drop what the new index says as well, if nothing was changed since; how many nodes."""
    entries = directory.entries
    if entries is None or directory.files_changed or entries.source is not directory.source:
        return 0
    gone = 0
    for name in names:
        node = entries.nodes.get(name)
        if node is not None and _is_plain(node) and not known(node.no) and entries.is_own(name):
            entries.give_back(name)
            node.stamp = TRIMMED
            gone += 1
    return gone


def _can_go(directory: DirNode, known: Callable[[int], bool]) -> bool:
    if directory.entries is None or directory.source is None or directory.handles:
        return False
    if directory.files_changed or directory.below_changed or directory.stamp == TRIMMED:
        return False
    return all(_is_plain(node) and not known(node.no) for node in directory.entries.nodes.values())


def _is_plain(node: Node) -> bool:
    """Whether the manifest says all there is to say about a node."""
    if node.handles or node.mode >= 0:
        return False
    return not node.changed_seq if isinstance(node, FileNode) else node.entries is None
