"""Files that lost their name here while the kernel may still come for them by number.

A path walk that found a file may open it after another process replaced or removed the name; on other file systems it
gets the file that had the name (C3). So a file is kept as if it were open from before its name goes until the kernel
forgets it, which it does at once where nobody is on the way. (A file that *another* mount replaced is not: the kernel
is told of that, and looks again.)

Threading: any thread; a table of which each use is one dict operation, which the interpreter makes atomic. No lock is
held across calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from arvfuse.inodes import Inodes
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode


class Held:
    """A file for as long as somebody changes its name. Compared by identity.

    Of a file whose bytes are all stored no handle is counted before somebody changes it: that would cost a removal two
    records and two turns at the tree's lock."""

    __slots__ = ("_uncounted", "file")

    def __init__(self, file: FileNode, counted: bool) -> None:
        self.file: Final = file
        self._uncounted: Final = [] if counted else [True]

    def __repr__(self) -> str:
        return f"<Held {self.file.no}{' uncounted' if self._uncounted else ''}>"

    def claim(self) -> bool:
        """True for the first caller if no handle is counted: it has to, or nobody ever will."""
        try:
            return self._uncounted.pop()  # one operation on a list, which the interpreter makes atomic
        except IndexError:
            return False


class Lingering:
    """Those of one mount."""

    def __init__(self) -> None:
        self._files: Final[dict[int, Held]] = {}

    def __repr__(self) -> str:
        return f"<Lingering {len(self._files)} files>"

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, number: object) -> bool:
        return number in self._files

    def hold(self, live: LiveTree, directory: DirNode, name: bytes) -> Held | None:
        """Keep the file of a name that is about to be removed or replaced, if it is one; settle() is to follow."""
        found = live.open_named(directory, name)
        return None if found is None else Held(*found)

    def around(
        self, live: LiveTree, directory: DirNode, name: bytes, inodes: Inodes, change: Callable[[], None]
    ) -> None:
        """Make *change*, which removes or replaces the name."""
        held = self.hold(live, directory, name)
        try:
            change()
        finally:
            self.settle(held, inodes)

    def keep(self, number: int) -> None:
        """A file that lingers is about to be changed: what is written is to stay while the kernel knows the file."""
        held = self._files.get(number)
        if held is not None and held.claim():
            _tree(held.file).opened(held.file, write=False)

    def settle(self, held: Held | None, inodes: Inodes) -> None:
        """What came of it: a file that still has a name, or that the kernel does not know, is let go."""
        if held is None:
            return
        number = held.file.no
        # By two paths two may remove a name at once: one of them keeps the file.
        if held.file.parent is None and self._files.setdefault(number, held) is held:
            # First noted, then looked for: who is told of it from now on sees that it has no name.
            if inodes.knows(number):
                if held.file.handles or held.file.buffers:  # somebody opened it between
                    self.keep(number)
                return
            if self._files.pop(number, None) is None:
                return  # forgotten meanwhile, and let go by that
        _let_go(held)

    def forgotten(self, number: int) -> None:
        """The kernel does not know that node any more."""
        if self._files:
            held = self._files.pop(number, None)
            if held is not None:
                _let_go(held)


def _let_go(held: Held) -> None:
    if not held.claim():
        _tree(held.file).closed(held.file, write=False)


def _tree(file: FileNode) -> LiveTree:
    assert isinstance(file.tree, LiveTree)
    return file.tree
