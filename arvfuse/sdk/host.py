"""A library session's workspace and committer in one process: what a mount has in two, without the messages.

``Host`` owns the log and spool in its directory, the put threads and the commit lock. Blocks stream out while files
are written: whoever writes also feeds the committer when a block was sealed, unless somebody is committing.
Trees are of kind "session": nothing reaches a record but by ``commit(save=True)``, and a recovery drops what was not
saved, unless ``keep`` was asked for it (fsync). Threading: any thread, holding no lock of ours. Failure: a commit that
fails raises, changes nothing and can be repeated.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from arvfuse.errors import ArvfuseError, StoreUnavailable
from arvfuse.model.collections import CollectionRecord, MountId
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import pdh as pdh_of
from arvfuse.ports import BlockStore, Catalog, Clock
from arvfuse.sdk import checkpoints
from arvfuse.sdk.ahead import PREFETCH_THREADS
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.putpool import PUT_THREADS, Pool, PutPool
from arvfuse.sdk.workspace import DEFAULT_SPOOL_BYTES, Workspace

KIND: Final = "session"
_serial: Final = itertools.count(1)


class NoStore:
    """The store of those who gave none: it holds nothing, so what needs bytes fails and all else works."""

    ahead_bytes: Final = 0

    def put(self, data: bytes | memoryview) -> str:
        raise StoreUnavailable("there is no store to keep the data in: hand one in (keep_client)")

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        raise StoreUnavailable("there is no store to keep the data in: hand one in (keep_client)")

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        raise StoreUnavailable(f"there is no store to read {locator} from: hand one in (keep_client)")

    def contains(self, locator: str) -> bool:
        return False

    def barrier(self) -> None:
        """Nothing is in it."""

    def free_bytes(self) -> tuple[int, int]:
        return 0, 0

    def close(self) -> None:
        """Nothing to close."""


class RestingPool:
    """Put threads that are there while there is work for them: ``rest`` ends them, the next call starts others."""

    def __init__(self, threads: int) -> None:
        self._threads: Final = threads
        self._lock: Final = threading.Lock()
        self._pool: PutPool | None = None  # guarded by: _lock

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        with self._lock:
            if self._pool is None:
                self._pool = PutPool(self._threads)
            return self._pool.submit(fn, *args)

    def rest(self) -> None:
        """Finish what was submitted and end the threads."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.finish()

    def close(self) -> None:
        """End the threads; what has not started is cancelled."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class Host:
    """Where library collections live. *directory* holds log and spool; what is in *catalog* may be None."""

    def __init__(
        self, directory: Path, mount: MountId, store: BlockStore | None, catalog: Catalog | None, clock: Clock, *,
        pool: Pool | None = None, put_threads: int = PUT_THREADS, spool_bytes: int = DEFAULT_SPOOL_BYTES,
        durable: bool = True, num_prefetch_threads: int = PREFETCH_THREADS,
    ) -> None:  # fmt: skip
        self.directory: Final = directory
        self.mount: Final = mount
        self.store: Final[BlockStore] = store if store is not None else NoStore()
        self.catalog: Final = catalog
        self.clock: Final = clock
        self.num_prefetch_threads: Final = num_prefetch_threads  # for each handle that reads; 0: none
        self.durable: Final = durable  # the directory outlives us, and a recovery looks into it
        self.workspace: Final = Workspace(
            directory, mount=mount, store=self.store, clock=clock, spool_bytes=spool_bytes
        )
        self._pool: Final[Pool] = pool if pool is not None else RestingPool(put_threads)
        self._committer: Final = Committer(
            directory=directory, mount=mount, store=self.store, catalog=catalog, clock=clock, pool=self._pool,
            on_stored=self.workspace.stored, durable=durable,
        )  # fmt: skip
        # Held across a whole commit, and taken with no other lock held, so it has no rank.
        self._committing: Final = threading.Lock()
        self._fed_seq = 0  # guarded by: _committing; read without
        self._stuck_at = 0  # level of the spool below which making room is not tried again; a hint, races do no harm
        self._kept: set[int] = set()  # trees with a keep mark; set work is atomic
        self._abandoned: deque[LiveTree] = deque()  # by garbage collection, in any thread and under any lock
        self._closed = False  # guarded by: _committing
        self._finalizer: Final = weakref.finalize(
            self, _end, self._pool, self._committer, self.workspace, None if durable else directory
        )

    def __repr__(self) -> str:
        return f"<Host {self.mount} {'closed' if self._closed else 'open'} {len(self.workspace.trees)} trees>"

    def open_tree(
        self, record: CollectionRecord | None, manifest: Manifest | None, *, writable: bool = True, known: bool = False
    ) -> LiveTree:
        """A tree on *manifest*: the content of *record*, or that of no record (*known*: but the catalog has it)."""
        tree = self.workspace.open_tree(record, manifest, kind=KIND, writable=writable)
        if record is None and manifest is not None and writable:
            if not known:
                with self._committing:
                    self._committer.provide(tree.no, bytes(manifest.text))
            with tree.lock:
                tree.pdh = pdh_of(manifest.text)
                tree.rebase(tree.asof, tree.pdh)
        return tree

    def abandon(self, tree: LiveTree) -> None:
        """Nobody uses the tree any more; what is not saved of it is dropped, at some later call."""
        self._abandoned.append(tree)

    def commit(
        self, trees: Sequence[LiveTree], *, save: bool = True, merge: bool = True, keep_previous: bool = False
    ) -> list[Outcome]:
        """Store what *trees* consist of now and make their texts; one outcome each, in their order.

        *save*: make it the next version of trees that have a record. *merge*: take in what the record has become
        meanwhile. Raises what went wrong; everything is kept for the next try."""
        with self._committing:
            self._drop_abandoned()
            chosen, seq = self.workspace.commit_point(trees)
            outcomes = self._committer.commit(
                [tree.no for tree in chosen], seq, save=save, merge=merge, keep_previous=keep_previous
            )
            self._fed_seq = max(self._fed_seq, seq)
            self.workspace.take(outcomes)
            self._tell_blocks()
        for outcome in outcomes:
            if outcome.cause is not None:
                raise outcome.cause
        by_tree = {outcome.tree: outcome for outcome in outcomes}
        return [by_tree[tree.no] for tree in trees]

    def stream(self) -> None:
        """Let what was sealed be stored now, and make room where much waits. Called before and after writes."""
        spool = self.workspace.shared.spool
        if spool.level * 2 > spool.limit and spool.level > self._stuck_at:
            try:
                self.commit(self.workspace.dirty(), save=False, merge=False)
                self._stuck_at = 0
            except ArvfuseError:  # the handles were told (D4); tried again when there is another block of data
                self._stuck_at = spool.level + BLOCK_BYTES
            return
        sealed = self.workspace.shared.sealed_seq
        if sealed <= self._fed_seq or not self._committing.acquire(blocking=False):
            return
        try:
            self.workspace.log.flush(sealed)
            self._committer.feed(sealed)
            self._fed_seq = max(self._fed_seq, sealed)
        finally:
            self._committing.release()

    def bind(self, tree: LiveTree, record: CollectionRecord) -> None:
        """*record* was made of what *tree* committed last: it is the tree's from now on."""
        with self._committing:
            with tree.lock:
                tree.record, tree.uuid = record, record.uuid
                tree.version, tree.pdh = int(record.version), str(record.pdh)
                tree.rebase(tree.asof, tree.pdh)
            self._committer.bind(tree.no, record)

    def keep(self, tree: LiveTree) -> None:
        """If we die before *tree* is saved, a recovery keeps its content as a collection of its own."""
        if self.durable and tree.no not in self._kept:
            checkpoints.ask(self.directory, tree.no)
            self._kept.add(tree.no)

    def saved(self, tree: LiveTree) -> None:
        """All of *tree* is in its record."""
        if tree.no in self._kept:
            checkpoints.take_back(self.directory, tree.no)
            self._kept.discard(tree.no)

    @property
    def has_kept(self) -> bool:
        """Whether the directory holds something that a recovery has to keep."""
        return bool(self._kept)

    def close(self) -> None:
        """End the put threads and close the files. A directory that is not durable goes. Idempotent."""
        with self._committing:
            self._closed = True
            self._finalizer()

    def rest(self) -> None:
        """End the put threads until there is work again."""
        if isinstance(self._pool, RestingPool):
            self._pool.rest()

    def _drop_abandoned(self) -> None:
        while self._abandoned:
            self.workspace.close_tree(self._abandoned.popleft())

    def _tell_blocks(self) -> None:
        """Bring what we know of blocks and what the committer knows together."""
        for block, error in self._committer.failed_puts().items():
            if isinstance(error, Exception):
                self.workspace.failed(block, error)
        there = {block.no for block in self.workspace.shared.blocks.all()}
        self._committer.forget_blocks_but(there)


def temporary_host(
    store: BlockStore | None, catalog: Catalog | None, clock: Clock, *, put_threads: int = PUT_THREADS,
    num_prefetch_threads: int = PREFETCH_THREADS,
) -> Host:  # fmt: skip
    """A host for one collection, in a directory that goes when the host is closed or garbage."""
    from tempfile import mkdtemp  # a mount has a directory

    directory = Path(mkdtemp(prefix="arvfuse-"))
    mount = MountId(f"{directory.name}-{next(_serial)}")
    return Host(
        directory, mount, store, catalog, clock, put_threads=put_threads, durable=False,
        num_prefetch_threads=num_prefetch_threads,
    )  # fmt: skip


def _end(pool: Pool, committer: Committer, workspace: Workspace, directory: Path | None) -> None:
    """What is left to do when a host is closed, or was forgotten."""
    pool.close()
    committer.close()
    workspace.close()
    if directory is not None:
        from shutil import rmtree

        rmtree(directory, ignore_errors=True)
