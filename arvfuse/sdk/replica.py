"""Collections as rebuilt from base and log: the records of a log applied, in order, to the manifests they build on.

One thread. Nodes are known by the numbers that records bind to them. A record that a tree's base already covers is
skipped, so a log can be read from any file on that still exists. Unlinked files live on until their Forget record:
their handles may still be written to, and their data have to be packed like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from arvfuse.errors import Damaged
from arvfuse.model import records
from arvfuse.model.collections import PDH
from arvfuse.model.manifests import Manifest
from arvfuse.model.merge import Delete, MakeDir, Put, from_json
from arvfuse.model.records import Record
from arvfuse.sdk.checkpoints import Covered
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path
from arvfuse.sdk.tree import Tree


class ReplicaTree(Tree):
    """One collection. *asof*: its base covers all records up to there; *seq*: last record that changed it;
    *merge_base*: the newest saved content that ours includes, by a merge at record *merge_seq* if that is not 0."""

    def __init__(self, no: int, base: records.Base, asof: int, pdh: str, manifest: Manifest | None) -> None:
        super().__init__(manifest, reserve=lambda count: 0)
        self.root.no = no
        self.base = base
        self.kind = base.kind
        self.uuid = base.uuid
        self.version = base.version
        self.asof = asof
        self.seq = 0
        self.base_pdh = pdh
        self.merge_base = pdh
        self.merge_seq = 0
        self.numbers: dict[int, Node] = {no: self.root}
        self.orphans: dict[int, FileNode] = {}

    def __repr__(self) -> str:
        return f"<ReplicaTree {self.no} {self.uuid} asof={self.asof} seq={self.seq}>"

    @property
    def dirty(self) -> bool:
        """Applied changes that no commit covered."""
        return self.seq > self.asof

    def number(self, no: int, node: Node) -> None:
        node.no = no
        self.numbers[no] = node

    def directory(self, no: int) -> DirNode:
        node = self.numbers.get(no)
        if not isinstance(node, DirNode):
            raise Damaged(f"log: node {no} of tree {self.no} is no directory that a record named")
        return node

    def file(self, no: int) -> FileNode | None:
        """The file of that number; None for an unlinked one whose records started before our base."""
        node = self.numbers.get(no) or self.orphans.get(no)
        return node if isinstance(node, FileNode) else None

    def put_apart(self, node: Node) -> None:
        """A node lost its name: keep the files in it that records may still name."""
        for each in node.loaded() if isinstance(node, DirNode) else iter((node,)):
            if each.no and self.numbers.pop(each.no, None) is not None and isinstance(each, FileNode):
                each.parent = None
                self.orphans[each.no] = each


class Replica:
    """All trees of one log. *manifest* opens a base text; *covered* says what is saved of a tree (number, uuid)."""

    def __init__(
        self, manifest: Callable[[PDH], Manifest], covered: Callable[[int, str | None], Covered | None]
    ) -> None:
        self._manifest: Final = manifest
        self._covered: Final = covered
        self.trees: dict[int, ReplicaTree] = {}
        self._ties: dict[int, set[int]] = {}  # trees that a Move joined

    def tied(self, tree: ReplicaTree) -> list[ReplicaTree]:
        """The trees that moves join to *tree*, itself included: they have to be saved in one transaction."""
        found, todo = {tree.no}, [tree.no]
        while todo:
            more = self._ties.get(todo.pop(), set()) - found
            found |= more
            todo.extend(more)
        return [self.trees[no] for no in sorted(found)]

    def apply(self, record: Record) -> None:
        """Apply one record. Damaged if it does not fit, which means that the log is not what was written."""
        body = record.body
        if isinstance(body, records.Base):
            self._base(record.tree, body)
            return
        tree = self.trees.get(record.tree)
        if tree is None:
            raise Damaged(f"log: record {record.seq} names tree {record.tree}, which has no base")
        if isinstance(body, records.Move):
            self._move(record, tree, body)
            return
        if record.seq <= tree.asof:
            return
        if not isinstance(body, records.Adopt | records.Boundary | records.Forget | records.Seal):
            tree.seq = record.seq
        self._apply(tree, record)

    def rebase(self, tree: ReplicaTree, seq: int, pdh: str, manifest: Manifest) -> ReplicaTree:
        """Start again on the text that was committed at *seq*: later records bind their numbers afresh."""
        new = ReplicaTree(tree.no, tree.base, seq, pdh, manifest)
        new.kind, new.uuid, new.version = tree.kind, tree.uuid, tree.version
        new.merge_base, new.merge_seq = tree.merge_base, tree.merge_seq
        new.orphans = tree.orphans
        self.trees[tree.no] = new
        return new

    def _base(self, no: int, base: records.Base) -> None:
        known = self.trees.get(no)
        if known is not None:
            # What we hold includes it, unless a merge in which nothing was ours made the tree what others had saved.
            if known.uuid == base.uuid and base.kind == "record" and max(known.asof + 1, known.seq) <= base.asof:
                tree = self.rebase(known, base.asof, base.pdh, self._manifest(PDH(base.pdh)))
                tree.version, tree.merge_base, tree.merge_seq = base.version, base.pdh, base.asof
            return
        asof, pdh = base.asof, base.pdh
        # A mount opens a record once; a session may have it open many times, and notes its saves by tree.
        covered = self._covered(no, base.uuid if base.kind == "record" else None)
        if covered is not None and covered.seq > asof:
            asof, pdh = covered
        self.trees[no] = ReplicaTree(no, base, asof, pdh, self._manifest(PDH(pdh)) if pdh else None)

    def _apply(self, tree: ReplicaTree, record: Record) -> None:
        now = record.wall_ns
        match record.body:
            case records.Adopt(no, parent, name):
                tree.number(no, tree.child(tree.directory(parent), name))
            case records.Create(no, parent, name, mode):
                file = FileNode(no, tree, mtime_ns=now, mode=mode)
                tree.attach(tree.directory(parent), name, file, now)
                tree.numbers[no] = file
            case records.Mkdir(no, parent, name):
                directory = DirNode(no, tree, mtime_ns=now)
                tree.attach(tree.directory(parent), name, directory, now)
                tree.numbers[no] = directory
            case records.Remove(parent, name):
                tree.put_apart(tree.detach(tree.directory(parent), name, now))
            case records.Rename(parent, name, new_parent, new_name):
                replaced = tree.move_entry(tree.directory(parent), name, tree.directory(new_parent), new_name, now)
                if replaced is not None:
                    tree.put_apart(replaced)
            case records.Merged():
                self._merged(tree, record.body, now)
                tree.merge_seq = record.seq
            case records.Forget(no):
                tree.orphans.pop(no, None)
            case records.Boundary() | records.Seal():
                pass
            case _:
                self._content(tree, record)

    def _content(self, tree: ReplicaTree, record: Record) -> None:
        body, now = record.body, record.wall_ns
        assert isinstance(
            body, records.WriteInline | records.WriteBlock | records.Truncate | records.Segments | records.Attrs
        )
        file = tree.file(body.node)
        if file is None:
            if record.flags & records.ORPHAN:
                return
            raise Damaged(f"log: record {record.seq} names file {body.node}, which no record bound")
        match body:
            case records.WriteInline(_, offset, length, address):
                tree.put_segment(file, offset, length, 0, address, now)
            case records.WriteBlock(_, offset, length, block, block_offset):
                tree.put_segment(file, offset, length, block, block_offset, now)
            case records.Truncate(_, size):
                tree.cut(file, size, now)
            case records.Segments(_, parts):
                tree.set_segments(file, parts, now)
            case records.Attrs(_, mtime_ns, mode):
                file.mtime_ns, file.mode = mtime_ns, mode

    def _move(self, record: Record, target: ReplicaTree, body: records.Move) -> None:
        source = self.trees.get(body.source_tree)
        take = source is not None and record.seq > source.asof
        give = record.seq > target.asof
        if source is None or not take:
            if give:
                raise Damaged(f"log: record {record.seq} moves from tree {body.source_tree}, which is gone")
            return
        source.seq = record.seq
        parent = source.directory(body.parent)
        if not give:
            source.put_apart(source.detach(parent, body.name, record.wall_ns))
            source.orphans.clear()
            return
        target.seq = record.seq
        self._ties.setdefault(source.no, set()).add(target.no)
        self._ties.setdefault(target.no, set()).add(source.no)
        new_parent = target.directory(body.new_parent)
        node = source.child(parent, body.name)
        replaced = source.move_entry(parent, body.name, new_parent, body.new_name, record.wall_ns)
        if replaced is not None:
            target.put_apart(replaced)
        for each in node.loaded() if isinstance(node, DirNode) else iter((node,)):
            source.numbers.pop(each.no, None)
        target.number(body.node, node)

    def _merged(self, tree: ReplicaTree, body: records.Merged, now: int) -> None:
        for each in body.effects:
            apply_effect(tree, each, now)
        tree.version = body.version
        tree.merge_base = body.pdh


def apply_effect(tree: Tree, effect_json: object, mtime_ns: int) -> tuple[DirNode, bytes, Node | None]:
    """Apply one merge effect mechanically; (parent, name, the node that lost the name)."""
    effect = from_json(effect_json)
    parent = make_directories(tree, effect.path[:-1], mtime_ns)
    name = effect.path[-1]
    old = tree.table(parent).get(name)
    if isinstance(effect, MakeDir):
        if old is None:
            tree.attach(parent, name, DirNode(tree.new_number(), tree, mtime_ns=mtime_ns), mtime_ns)
        return parent, name, None
    if isinstance(effect, Delete) and isinstance(old, DirNode) and not tree.is_empty(old):
        return parent, name, None  # somebody put something in meanwhile
    if old is not None:
        tree.detach(parent, name, mtime_ns)
        if isinstance(tree, ReplicaTree):
            tree.put_apart(old)
    if isinstance(effect, Put):
        file = FileNode(tree.new_number(), tree, mtime_ns=mtime_ns)
        tree.attach(parent, name, file, mtime_ns)
        tree.set_segments(file, effect.segments, mtime_ns)
    else:
        assert isinstance(effect, Delete)
    return parent, name, old


def make_directories(tree: Tree, path: Path, mtime_ns: int) -> DirNode:
    """The directory at *path*, made with its parents; a file in the way gives way."""
    directory = tree.root
    for name in path:
        node = tree.table(directory).get(name)
        if not isinstance(node, DirNode):
            if node is not None:
                tree.detach(directory, name, mtime_ns)
            node = DirNode(tree.new_number(), tree, mtime_ns=mtime_ns)
            tree.attach(directory, name, node, mtime_ns)
        directory = node
    return directory
