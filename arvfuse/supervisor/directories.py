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

_Source = tuple[Manifest, NodePath]


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
        done: Pending[None] = Future()
        if source is None:  # a new directory, which needs no index
            done.set_result(None)
            return done
        with self._lock:
            known = self._under_way.setdefault(directory, done)
        if known is done:
            self.fetch(source).add_done_callback(lambda fetched: self._came(directory, source, fetched, done))
        return known

    def fetch(self, source: _Source) -> Pending[DirectoryIndex]:
        """The index of a directory of a manifest that the backend can read too."""
        fetched: Pending[DirectoryIndex] = Future()
        self._ask(source, fetched, again=False)
        return fetched

    def read_here(self, directory: DirNode) -> None:
        """As read(), for a thread that can wait; where the backend cannot help the text is parsed after all."""
        try:
            self.read(directory).result(self._stall_bound_s)
        except (ArvfuseError, TimeoutError) as error:
            log.warning("%r is parsed here: %s", directory, error)
            live_tree(directory).read_directory(directory)

    def index_here(self, source: _Source) -> DirectoryIndex | None:
        """An index for a thread that can wait; None if the backend cannot help."""
        manifest, path = source
        try:
            if not manifest.origin or not manifest.is_big(path):
                return manifest.index(path)
            return self.fetch(source).result(self._stall_bound_s)
        except (ArvfuseError, TimeoutError) as error:
            log.warning("%s: not indexed: %s", manifest.origin, error)
            return None

    def _ask(self, source: _Source, fetched: Pending[DirectoryIndex], *, again: bool) -> None:
        manifest, path = source
        names = [name.decode("latin-1") for name in path]
        answer = self._link.request("index", text=manifest.origin, path=names)
        answer.add_done_callback(lambda done: self._map(source, fetched, again, done))

    def _map(
        self, source: _Source, fetched: Pending[DirectoryIndex], again: bool, answer: Future[dict[str, Any]]
    ) -> None:  # fmt: skip
        manifest, path = source
        try:
            file = Path(answer.result()["index"])
            try:
                index = open_index(file, index_key(Path(manifest.origin), path), verify=False)
            except (OSError, Damaged) as error:
                if again:
                    raise StoreUnavailable(f"{file}: gone or cut off as soon as it was made") from error
                log.warning("%s: %s", file, error)
                self._ask(source, fetched, again=True)
                return
        except BaseException as failure:  # belongs to whoever waits, not to the thread that brings the answer
            fetched.set_exception(failure)
        else:
            fetched.set_result(index)

    def _came(
        self, directory: DirNode, source: _Source, fetched: Pending[DirectoryIndex], done: Pending[None]
    ) -> None:  # fmt: skip
        failure: BaseException | None = None
        try:
            live_tree(directory).take_index(directory, source, fetched.result())
        except BaseException as error:  # as above
            failure = error
        with self._lock:
            self._under_way.pop(directory, None)
        if failure is not None:
            done.set_exception(failure)
        else:
            done.set_result(None)
