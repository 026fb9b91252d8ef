"""Taking changes back: the notes, and the primitive changes of a tree."""

from __future__ import annotations

import threading
from collections.abc import Callable

from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.undo import Notes, Undo, UndoableTree
from arvfuse.sync import Rank, RankedLock

A, B = "a" * 32 + "+10", "b" * 32 + "+10"


class Log:
    flushed_seq = 0


class Noting(UndoableTree):
    """A tree with a list of notes of its own."""

    def __init__(self, number: int) -> None:
        self.notes: list[Callable[[], None]] = []
        numbers = iter(range(number, number + 100))
        super().__init__(None, reserve=lambda _count: next(numbers))

    def note_undo(self, act: Callable[[], None]) -> None:
        self.notes.append(act)

    def undo(self) -> None:
        while self.notes:
            self.notes.pop()()

    def state(self) -> object:
        def of(node: FileNode | DirNode) -> object:
            assert node.tree is self
            if isinstance(node, FileNode):
                return node.parts()
            return {name: (of(child), child.parent is node) for name, child in self.table(node).items()}

        return of(self.root), self.root.mtime_ns, self.loaded


def notes(number: int) -> Notes:
    return Notes(number, RankedLock(Rank.COLLECTION, number))


def file_in(tree: Noting, name: bytes) -> FileNode:
    file = FileNode(tree.new_number(), tree)
    tree.attach(tree.root, name, file, 1)
    return file


def test_what_is_written_is_never_undone() -> None:
    log, tree, done = Log(), notes(1), list[int]()
    undo = Undo(log)
    for seq in (1, 2, 3, 4):
        undo.note(seq, tree, lambda seq=seq: done.append(seq))  # type: ignore[misc] # a default binds it
    log.flushed_seq = 2
    undo.note(5, tree, lambda: done.append(5))
    assert len(undo) == 3
    undo.note(2, tree, lambda: done.append(2))  # written before it was noted
    undo.roll_back()
    assert (done, len(undo)) == ([5, 4, 3], 0)
    undo.note(6, tree, lambda: done.append(6))
    undo.forget(tree)
    undo.roll_back()
    assert done == [5, 4, 3]


def test_who_comes_while_it_is_undone_waits_until_it_is() -> None:
    undo, tree = Undo(Log()), notes(1)
    order: list[str] = []
    second = threading.Thread(target=lambda: (undo.roll_back(), order.append("second")))

    def slowly() -> None:
        second.start()
        second.join(0.1)
        order.append("undone")

    undo.note(1, tree, slowly)
    undo.roll_back()
    second.join()
    assert order == ["undone", "second"]


def test_notes_of_several_trees_are_undone_in_the_order_of_all() -> None:
    undo, one, two, done = Undo(Log()), notes(1), notes(2), list[int]()
    for number, tree in enumerate((one, two, two, one, two)):
        undo.note(7, tree, lambda number=number: done.append(number))  # type: ignore[misc] # a default binds it
    undo.roll_back()
    assert done == [4, 3, 2, 1, 0]


def test_names_are_put_back() -> None:
    tree = Noting(1)
    old = file_in(tree, b"old")
    directory = DirNode(tree.new_number(), tree)
    tree.attach(tree.root, b"dir", directory, 2)
    before = tree.state()
    tree.notes.clear()
    new = file_in(tree, b"new")
    tree.detach(tree.root, b"new", 3)
    tree.move_entry(tree.root, b"old", directory, b"there", 4)
    tree.attach(tree.root, b"old", new, 5)
    tree.move_entry(tree.root, b"old", directory, b"there", 6)
    tree.undo()
    assert (tree.state(), old.name) == (before, b"old")


def test_a_move_to_another_tree_is_taken_back() -> None:
    one, two = Noting(1), Noting(200)
    directory = DirNode(one.new_number(), one)
    one.attach(one.root, b"dir", directory, 1)
    one.attach(directory, b"f", FileNode(one.new_number(), one), 1)
    file_in(two, b"dir2")
    before = one.state(), two.state()
    two.notes = one.notes = []
    one.move_entry(one.root, b"dir", two.root, b"moved", 5)
    one.undo()
    assert (one.state(), two.state()) == before


def test_content_is_put_back() -> None:
    tree = Noting(1)
    file = file_in(tree, b"f")
    tree.set_segments(file, [(10, A, 0), (10, B, 0)], 1)
    for change in (
        lambda: tree.put_segment(file, 5, 10, 7, 0, 2),
        lambda: tree.put_segment(file, 15, 10, 7, 0, 2),
        lambda: tree.put_segment(file, 30, 1, 7, 0, 2),
        lambda: tree.cut(file, 3, 2),
        lambda: tree.cut(file, 0, 2),
        lambda: tree.cut(file, 100, 2),
        lambda: tree.set_segments(file, [(3, 7, 0)], 2),
    ):
        tree.notes.clear()
        version = file.version
        change()
        tree.undo()
        assert (file.parts(), file.mtime_ns) == ([(10, A, 0), (10, B, 0)], 1)
        assert file.version > version + 1  # who planned with what is undone sees that
        file.segments.check_invariants()
