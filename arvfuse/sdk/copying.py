"""Copies of files and directories, within a workspace or between two.

In one workspace a copy shares segments, also those that are in the log or spool still. Between workspaces on one
store the source is stored first and its blocks are shared; between stores the bytes are copied. Threading: any
thread; a copy of a directory is a step per entry. Failure: what was copied before stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arvfuse.model.ranges import HOLE, Part, SegmentMap
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode, Node

if TYPE_CHECKING:
    from arvfuse.sdk.collection import Collection
    from arvfuse.sdk.fileitem import ArvadosFile

_STEP_BYTES: Final = 4 << 20


def make_copy(target: Collection, source: Any, above: DirNode, name: bytes, *, replace: bool) -> Node:
    """Copy item *source* to *name* in directory *above* of *target*; the new node."""
    from arvfuse.sdk.fileitem import ArvadosFile  # of the library; a mount copies ranges

    tree = _tree_of(above)
    if replace:
        tree.remove_tree(above, name)
    if isinstance(source, ArvadosFile):
        return _copy_file(target, source, above, name)
    top = tree.mkdir(above, name)
    stack: list[tuple[Any, DirNode]] = [(source, top)]
    while stack:
        directory, made = stack.pop()
        for text, item in directory.items():
            below = text.encode("utf-8", "surrogateescape")
            if isinstance(item, ArvadosFile):
                _copy_file(target, item, made, below)
            else:
                stack.append((item, tree.mkdir(made, below)))
    return top


def _copy_file(target: Collection, source: ArvadosFile, above: DirNode, name: bytes) -> FileNode:
    node = _tree_of(above).create(above, name, mode=source.node.mode, exclusive=True)
    copy_content(target, source, node)
    return node


def copy_content(target: Collection, source: ArvadosFile, node: FileNode) -> None:
    """Let *node*, a file of *target*, have the content of *source*."""
    home = source.root_collection().host
    if home is target.host:
        shared = home.workspace.shared
        with shared.sharing:
            _tree_of(node).set_content(node, _tree_of(source.node).shareable(source.node))
        return
    if home.store is target.host.store:
        source.root_collection().flush()
        with _tree_of(source.node).held(source.node):
            parts = source.node.parts()
        if all(isinstance(ref, str) or ref == HOLE for _, ref, _ in parts):
            _tree_of(node).set_content(node, parts)
            return
    tree = _tree_of(node)
    tree.truncate(node, 0)
    for offset in range(0, source.size(), _STEP_BYTES):
        data = source.fetch(offset, _STEP_BYTES)
        target.host.stream()
        tree.write(node, offset, memoryview(data))
    target.host.stream()


def copy_range(source: FileNode, start: int, target: FileNode, at: int, length: int) -> int:
    """Let [at, at + length) of *target* share the bytes of *source* from *start* on, both of one workspace; how many
    there were. FileTooBig, ReadOnly."""
    tree = _tree_of(target)
    with tree.shared.sharing:
        spans = SegmentMap(_tree_of(source).shareable(source)).cover(start, length)
        if spans:
            tree.splice(target, at, spans)
    return sum(span.length for span in spans)


def committed_parts(file: FileNode) -> list[Part]:
    """The parts of *file* that are in stored blocks, or holes."""
    return [part for part in file.parts() if isinstance(part[1], str) or part[1] == HOLE]


def _tree_of(node: Node) -> LiveTree:
    tree = node.tree
    assert isinstance(tree, LiveTree)
    return tree
