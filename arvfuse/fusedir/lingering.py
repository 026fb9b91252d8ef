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


class Lingering:
    """Those of one mount."""

    def __init__(self) -> None:
        self._files: Final[dict[int, FileNode]] = {}

    def __repr__(self) -> str:
        return f"<Lingering {len(self._files)} files>"

    def __len__(self) -> int:
        return len(self._files)

    def hold(self, live: LiveTree, directory: DirNode, name: bytes) -> FileNode | None:
        """Keep the file of a name that is about to be removed or replaced, if it is one; settle() is to follow."""
        file = live.peek(directory, name)
        if not isinstance(file, FileNode):
            return None
        live.opened(file, write=False)
        return file

    def settle(self, file: FileNode | None, inodes: Inodes) -> None:
        """What came of it: a file that still has a name, or that the kernel does not know, is let go."""
        if file is None:
            return
        if file.parent is None:
            # First noted, then looked for: who is told of it from now on sees that it has no name.
            self._files[file.no] = file
            if inodes.knows(file.no):
                return
            if self._files.pop(file.no, None) is None:
                return  # forgotten meanwhile, and let go by that
        _let_go(file)

    def forgotten(self, number: int) -> None:
        """The kernel does not know that node any more."""
        if self._files:
            file = self._files.pop(number, None)
            if file is not None:
                _let_go(file)


def _let_go(file: FileNode) -> None:
    tree = file.tree
    assert isinstance(tree, LiveTree)
    tree.closed(file, write=False)
