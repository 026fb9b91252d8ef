"""Which nodes the kernel knows: number <-> node, with the kernel's lookup counts.

A node has its number from the moment it enters a tree, so this table never mints one; it keeps a node reachable by
number for as long as the kernel may ask for it. Number 1 is the mount's root: it stands for whatever node the mount
has there, is known from the start and is never forgotten.

Threading: any thread; the lock is held for dict work only, no caller's code runs under it. Failure: a number that
the kernel does not hold any more is StaleNode; forgetting more than was looked up is a bug of the kernel's or ours:
it is logged and the node is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, Protocol

from arvfuse.errors import StaleNode
from arvfuse.sync import Rank, RankedLock

log = logging.getLogger(__name__)

ROOT: Final = 1


class Numbered(Protocol):
    """Whatever has a number: nodes of trees, directories of ours, generated files."""

    @property
    def no(self) -> int: ...


class Inodes:
    """The table. Invariants: a number is in the table iff its count is above 0, or it is the root's."""

    def __init__(self, root: Numbered) -> None:
        self._root: Final = root
        self._lock: Final = RankedLock(Rank.INODES)
        self._nodes: dict[int, Numbered] = {ROOT: root}  # guarded by: _lock
        self._counts: dict[int, int] = {}  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<Inodes {len(self._nodes)} nodes>"

    def __len__(self) -> int:
        return len(self._nodes)

    def number(self, node: Numbered) -> int:
        """The number by which the kernel knows *node*."""
        return ROOT if node is self._root else node.no

    def find(self, number: int) -> Numbered:
        """The node of a request. StaleNode if the kernel should not know it (any more)."""
        try:
            return self._nodes[number]  # one dict read: safe beside writers
        except KeyError:
            raise StaleNode(f"node {number}") from None

    def knows(self, number: int) -> bool:
        """True if the kernel holds the number."""
        return number in self._nodes

    def remember(self, node: Numbered) -> int:
        """The kernel is about to be told of *node* once more; its number."""
        number = self.number(node)
        with self._lock:
            self._nodes[number] = node
            self._counts[number] = self._counts.get(number, 0) + 1
        return number

    def remember_all(self, nodes: Iterable[Numbered]) -> None:
        """As remember() of each of *nodes*, none of which is the root."""
        with self._lock:
            known, counts = self._nodes, self._counts
            for node in nodes:
                number = node.no
                known[number] = node
                counts[number] = counts.get(number, 0) + 1

    def forget(self, batch: Iterable[tuple[int, int]]) -> list[Numbered]:
        """The kernel dropped (number, count) references; the nodes it does not know any more, to be evicted."""
        gone: list[Numbered] = []
        odd: list[int] = []
        with self._lock:
            for number, count in batch:
                left = self._counts.get(number, 0) - count
                if left < 0:
                    odd.append(number)
                if left > 0:
                    self._counts[number] = left
                    continue
                self._counts.pop(number, None)
                if number == ROOT:
                    continue
                node = self._nodes.pop(number, None)
                if node is not None:
                    gone.append(node)
        for number in odd:
            log.warning("the kernel forgot node %d more often than it was told of it", number)
        return gone

    def count(self, number: int) -> int:
        """How often the kernel was told of the node and has not forgotten it."""
        return self._counts.get(number, 0)

    def known(self) -> list[Numbered]:
        """All nodes that the kernel knows, the root first."""
        with self._lock:
            return list(self._nodes.values())

    def check_invariants(self) -> None:
        with self._lock:
            assert all(count > 0 for count in self._counts.values())
            assert set(self._nodes) == set(self._counts) | {ROOT}
