"""After notices were lost: make the kernel forget, bit by bit, every name and attribute that it may have wrong.

Until that is done the notifier is ``distrusted`` and every timeout is 0, so nothing new can go wrong. Only the queue
is used, and never more of it than leaves room for the notices of the day.

Threading: confined to the mount's housekeeper. Failure: a notice lost meanwhile starts the walk again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from arvfuse.fusedir.host import Alias, Host
from arvfuse.fusedir.projects import ProjectDir
from arvfuse.fusedir.roots import ByIdDir
from arvfuse.sdk.nodes import DirNode, FileNode


class Expiry:
    """The walk over all that the kernel knows."""

    def __init__(self, host: Host) -> None:
        self._host: Final = host
        self._generation = -1  # of the walk under way
        self._left: Iterator[Any] = iter(())

    def step(self) -> bool:
        """Queue notices while the queue is less than half full. True: nothing is distrusted (any more)."""
        notices = self._host.notices
        if not notices.distrusted:
            return True
        if self._generation < 0:
            self._begin()
        half = notices.capacity // 2
        for node in self._left:
            self._expire(node)
            if notices.room < half:
                return False
        walked, self._generation = self._generation, -1
        notices.settle(walked)
        return not notices.distrusted

    def _begin(self) -> None:
        self._generation = self._host.notices.generation
        self._left = iter(self._host.inodes.known())

    def _expire(self, node: Any) -> None:
        notices = self._host.notices
        if isinstance(node, ProjectDir | ByIdDir):
            number = self._host.inodes.number(node)
            for name in node.known_names():
                notices.entry(number, name)
        held = node.node if isinstance(node, Alias) else node
        if isinstance(held, FileNode | DirNode) and held.parent is not None:
            for number in self._host.numbers_of(held.parent):
                if self._host.inodes.knows(number):
                    notices.entry(number, held.name)
        # A file that lost its name meanwhile is asked for by its attributes, and answered StaleNode. The pages of
        # a directory are the listing that the kernel keeps.
        notices.node(self._host.inodes.number(node), attributes_only=isinstance(held, FileNode))
