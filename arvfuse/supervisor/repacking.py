"""Which files of a mount are repacked when, and taking over what the backend made of them.

A file that a commit left fragmented is repacked by the backend once nobody wrote to it for 60 s; the change is logged
and committed like any other, so it is one save. Confined to the housekeeper's thread. Failure: a file that cannot be
repacked is a line in the log, and left as it is until it is written again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, Protocol

from arvfuse.errors import ArvfuseError
from arvfuse.fusefile import live_tree
from arvfuse.ports import Clock
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.repacking import is_fragmented

log = logging.getLogger(__name__)

IDLE_S: Final = 60.0
_ROUND_BYTES: Final = 1 << 30  # of one request: what it stores is saved at once
_LOOK_PAUSE_S: Final = 5.0
_AT_ONCE: Final = 64  # segments; to look at more takes milliseconds, and requests would wait for it after each commit


class _Asks(Protocol):
    def request(self, op: str, **args: Any) -> Future[dict[str, Any]]: ...


class _Seen(NamedTuple):
    """*sure*: that it is fragmented."""

    file: FileNode
    version: int
    at_s: float
    sure: bool


class Repacker:
    """The fragmented files of a mount. *came_back* hands what is to be done with an answer to our thread."""

    def __init__(self, link: _Asks, clock: Clock, came_back: Callable[[Callable[[], None]], None]) -> None:
        self._link: Final = link
        self._clock: Final = clock
        self._came_back: Final = came_back
        self._seen: Final[dict[int, _Seen]] = {}
        self._asked = False
        self._look_at_s = 0.0

    def __repr__(self) -> str:
        return f"<Repacker {len(self._seen)} files{' asked' if self._asked else ''}>"

    def note(self, files: Iterable[FileNode]) -> None:
        """A commit covered these: those that it left fragmented are ours."""
        now = self._clock.monotonic()
        for file in files:
            tree = live_tree(file)
            with tree.lock:
                if file.parent is None or file.pristine:
                    continue
                few = len(file.segments) <= _AT_ONCE
                if not few or is_fragmented(file.parts()):
                    self._seen[file.no] = _Seen(file, file.version, now, few)

    def step(self) -> None:
        """Ask for what is due, one request at a time."""
        now = self._clock.monotonic()
        if self._asked or not self._seen or now < self._look_at_s:
            return
        self._look_at_s = now + _LOOK_PAUSE_S
        chosen: list[_Seen] = []
        size = 0
        for seen in list(self._seen.values()):
            if seen.file.parent is None or seen.file.version != seen.version:
                del self._seen[seen.file.no]  # the commit that covers what changed notes it again
            elif now - seen.at_s >= IDLE_S and (not chosen or size + seen.file.size <= _ROUND_BYTES):
                if not seen.sure and not self._is_fragmented(seen.file):
                    del self._seen[seen.file.no]
                    continue
                chosen.append(seen)
                size += seen.file.size
        if chosen:
            self._ask(chosen)

    @staticmethod
    def _is_fragmented(file: FileNode) -> bool:
        with live_tree(file).lock:
            parts = file.parts()
        return is_fragmented(parts)

    def _ask(self, chosen: list[_Seen]) -> None:
        files, asked = [], []
        for seen in chosen:
            del self._seen[seen.file.no]
            with live_tree(seen.file).lock:
                if seen.file.version == seen.version:  # what was written meanwhile is noted by its commit
                    files.append(seen.file.parts())
                    asked.append(seen)
        if not files:
            return
        self._asked = True
        answer = self._link.request("repack", files=files)
        answer.add_done_callback(lambda done: self._came_back(lambda: self._take(asked, done)))

    def _take(self, chosen: list[_Seen], answer: Future[dict[str, Any]]) -> None:
        self._asked = False
        try:
            made = answer.result()["files"]
            for seen, parts in zip(chosen, made, strict=True):
                tree = live_tree(seen.file)
                tree.repack(seen.file, seen.version, [(length, ref, offset) for length, ref, offset in parts])
        except ArvfuseError as error:
            log.warning("%d files are not repacked: %s", len(chosen), error)


def unsettled(trees: Iterable[LiveTree]) -> list[FileNode]:
    """The files of *trees* that are not in blocks yet: a commit may leave them fragmented."""
    found: list[FileNode] = []
    for tree in trees:
        with tree.lock:
            found.extend(tree.unsettled.values())
    return found
