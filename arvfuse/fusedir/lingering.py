"""Files that lost their name here while the kernel may still come for them by number.

A path walk that found a file may open it after another process replaced or removed the name; on other file systems it
gets the file that had the name (C3). So a file is kept as if it were open from before its name goes until the kernel
forgets it, which it does at once where nobody is on the way. (A file that *another* mount replaced is not: the kernel
is told of that, and looks again.)

Threading: any thread; a table of which each use is one dict operation, which the interpreter makes atomic. No lock is
held across calls.
"""

from __future__ import annotations

from typing import Final

from arvfuse.inodes import Inodes
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode


class Held:
    """A file for as long as somebody changes its name. Compared by identity."""

    __slots__ = ("file",)

    def __init__(self, file: FileNode) -> None:
        self.file: Final = file

    def __repr__(self) -> str:
        return f"<Held {self.file.no}>"


class Lingering:
    """Those of one mount."""

    def __init__(self) -> None:
        self._files: Final[dict[int, Held]] = {}

    def __repr__(self) -> str:
        return f"<Lingering {len(self._files)} files>"

    def __len__(self) -> int:
        return len(self._files)

    def hold(self, live: LiveTree, directory: DirNode, name: bytes) -> Held | None:
        """Keep the file of a name that is about to be removed or replaced, if it is one; settle() is to follow."""
        file = live.open_named(directory, name)
        return None if file is None else Held(file)

    def settle(self, held: Held | None, inodes: Inodes) -> None:
        """What came of it: a file that still has a name, or that the kernel does not know, is let go."""
        if held is None:
            return
        number = held.file.no
        # By two paths two may remove a name at once: one of them keeps the file.
        if held.file.parent is None and self._files.setdefault(number, held) is held:
            # First noted, then looked for: who is told of it from now on sees that it has no name.
            if inodes.knows(number):
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
    tree = held.file.tree
    assert isinstance(tree, LiveTree)
    tree.closed(held.file, write=False)
