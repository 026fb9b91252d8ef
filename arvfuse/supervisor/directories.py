"""How the engine gets long texts and the names of big directories: the backend makes an index, the engine maps it.

``DirectoryReader`` owns the requests under way, one for each directory however many wait for it. Threading: any thread
may ask; an answer is taken in by the thread that brings it, for as long as it takes to map a file. Failure: what the
backend says; an index that is gone or cut off before it is mapped is asked for once more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from arvfuse.errors import ArvfuseError, Damaged, StoreUnavailable
from arvfuse.fresh.pending import Pending
from arvfuse.fusedir.host import Link
from arvfuse.fusefile import live_tree
from arvfuse.model.dirindex import DirectoryIndex
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.mapped import index_key, open_index, open_manifest
from arvfuse.sdk.nodes import DirNode
from arvfuse.sdk.nodes import Path as NodePath
from arvfuse.sync import Rank, RankedLock

log = logging.getLogger(__name__)


def open_answer(reply: Mapping[str, Any]) -> Manifest:
    """The manifest that the backend's answer to ``open`` names, mapped and not read."""
    lines = reply.get("lines")
    return open_manifest(Path(reply["manifest"]), Path(lines) if lines else None)


class DirectoryReader:
    """Fetches the indexes of directories that ``Tree.table`` refused to parse (NeedsIndex)."""

    def __init__(self, link: Link, stall_bound_s: float) -> None:
        self._link: Final = link
        self._stall_bound_s: Final = stall_bound_s
        self._lock: Final = RankedLock(Rank.LEAF)
        self._under_way: dict[DirNode, Pending[None]] = {}  # guarded by: _lock

    def read(self, directory: DirNode) -> Pending[None]:
        """Done when the directory has its entries. StoreUnavailable, InvalidManifest, StaleNode."""
        source = directory.source
        with self._lock:
            pending = self._under_way.get(directory)
            if pending is not None:
                return pending
            pending = Future()
            if source is not None:
                self._under_way[directory] = pending
        if source is None:  # a new directory, which needs no index
            pending.set_result(None)
        else:
            self._ask(directory, source, pending, again=False)
        return pending

    def read_here(self, directory: DirNode) -> None:
        """As read(), for a thread that can wait; where the backend cannot help the text is parsed after all."""
        try:
            self.read(directory).result(self._stall_bound_s)
        except (ArvfuseError, TimeoutError) as error:
            log.warning("%r is parsed here: %s", directory, error)
            live_tree(directory).read_directory(directory)

    def _ask(self, directory: DirNode, source: tuple[Manifest, NodePath], pending: Pending[None], again: bool) -> None:
        manifest, path = source
        names = [name.decode("latin-1") for name in path]
        answer = self._link.request("index", text=manifest.origin, path=names)
        answer.add_done_callback(lambda done: self._came(directory, source, pending, again, done))

    def _came(
        self, directory: DirNode, source: tuple[Manifest, NodePath], pending: Pending[None], again: bool,
        answer: Future[dict[str, str]],
    ) -> None:  # fmt: skip
        failure: BaseException | None = None
        try:
            index = _map(Path(answer.result()["index"]), source)
            if index is None and not again:
                self._ask(directory, source, pending, again=True)
                return
            if index is None:
                raise StoreUnavailable(f"{answer.result()['index']}: gone or cut off as soon as it was made")
            live_tree(directory).take_index(directory, source, index)
        except BaseException as error:  # belongs to whoever waits, not to the thread that brings the answer
            failure = error
        with self._lock:
            self._under_way.pop(directory, None)
        if failure is not None:
            pending.set_exception(failure)
        else:
            pending.set_result(None)


def _map(file: Path, source: tuple[Manifest, NodePath]) -> DirectoryIndex | None:
    manifest, path = source
    try:
        return open_index(file, index_key(Path(manifest.origin), path), verify=False)
    except (OSError, Damaged) as error:
        log.warning("%s: %s", file, error)
        return None
