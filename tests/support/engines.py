"""An engine in one process for tests of the mount's side: real trees, log, committer and look-ups; no messages.

Requests are answered at once, or when the test says so (``hold``). Commits run where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from arvfuse.backend.lookups import Lookups
from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import ArvfuseError, StoreUnavailable
from arvfuse.fresh.node import Space
from arvfuse.fusedir.host import Settings
from arvfuse.model.collections import CollectionRecord, MountId
from arvfuse.notify import Notifier
from arvfuse.operations import Operations
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.hashahead import HashingAhead
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore
from arvfuse.supervisor.directories import DirectoryReader, open_answer
from tests.support.clock import FakeClock

MOUNT = MountId("test")


class InlinePool:
    """A put pool whose work is done when it is handed in."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args))
        except Exception as failure:
            future.set_exception(failure)
        return future

    def close(self) -> None: ...


class FakeLink:
    """Requests answered by real look-ups: at once, or one by one while *hold* is set. *asked* lists them all."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self.hold = False
        self.down = False
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.waiting: list[tuple[str, dict[str, Any], Future[dict[str, Any]]]] = []

    def request(self, op: str, **args: Any) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        self.asked.append((op, args))
        if self.hold:
            self.waiting.append((op, args, future))
        else:
            self._answer(op, args, future)
        return future

    def answer_next(self) -> None:
        """Answer the oldest request that waits."""
        self._answer(*self.waiting.pop(0))

    def ops(self) -> list[str]:
        """What was asked since the last call."""
        asked, self.asked = self.asked, []
        return [op for op, _ in asked]

    def _answer(self, op: str, args: dict[str, Any], future: Future[dict[str, Any]]) -> None:
        if self.down:
            future.set_exception(StoreUnavailable("the backend is away"))
            return
        try:
            future.set_result(self._lookups.answer(op, args))
        except ArvfuseError as failure:
            future.set_exception(failure)


class FakeEngine:
    """The ``Engine`` of fusedir over memory stores below *directory*."""

    def __init__(self, directory: Path, *, clock: Any = None) -> None:
        self.clock = clock or FakeClock()
        self.catalog = MemoryCatalog(clock=self.clock)
        self.store = MemoryStore()
        self.workspace = Workspace(directory, mount=MOUNT, store=self.store, clock=self.clock)
        self.committer = Committer(
            directory=directory, mount=MOUNT, store=self.store, catalog=self.catalog, clock=self.clock,
            pool=InlinePool(), on_stored=self.workspace.stored, ahead=HashingAhead(directory, InlinePool()),
        )  # fmt: skip
        self.link = FakeLink(Lookups(self.catalog, directory))
        self.reader = DirectoryReader(self.link, 60.0)
        self.commits: list[list[int]] = []
        self.open: dict[str, LiveTree] = {}
        self.writable = True

    def open_collection(self, identity: str) -> Future[LiveTree]:
        opened: Future[LiveTree] = Future()
        if identity in self.open:
            opened.set_result(self.open[identity])
            return opened

        def answered(source: Future[dict[str, Any]]) -> None:
            failure = source.exception()
            if failure is not None:
                opened.set_exception(failure)
                return
            entry = source.result()["entry"]
            record = self.catalog.get(entry["uuid"])
            manifest = open_answer(source.result())
            by_hash = "+" in identity
            # as the real engine: content by hash is of no record and never changes
            live = self.workspace.open_tree(
                None if by_hash else record, manifest, writable=self.writable and not by_hash
            )
            self.open[identity] = live
            opened.set_result(live)

        self.link.request("open", id=identity).add_done_callback(answered)
        return opened

    def read_directory(self, directory: DirNode) -> Future[None]:
        return self.reader.read(directory)

    def commit(self, trees: Sequence[LiveTree]) -> Future[Any]:
        done: Future[Any] = Future()
        if self.link.down:
            done.set_exception(StoreUnavailable("the backend is away"))
            return done
        self.commits.append([tree.no for tree in trees])
        chosen, seq = self.workspace.commit_point(trees)
        outcomes = self.committer.commit([tree.no for tree in chosen], seq)
        self.workspace.take(outcomes)
        done.set_result(outcomes)
        return done

    def forget(self, live: LiveTree) -> None:
        self.open = {identity: tree for identity, tree in self.open.items() if tree is not live}

    def statfs(self) -> Space:
        return Space(total_bytes=1 << 40, free_bytes=1 << 39)

    def room(self) -> Future[None] | None:
        return self.workspace.room()

    def new_collection(self, name: str, text: bytes = b"", owner: str | None = None) -> CollectionRecord:
        """A record in the catalog, below the home project."""
        return self.catalog.create(name=name, owner=owner, manifest=text)

    def close(self) -> None:
        self.committer.close()
        self.workspace.close()


class RecordedKernel:
    """The KernelNotices port of a test: remembers what it was told."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.inodes: list[tuple[int, bool]] = []

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.entries.append((parent, name))

    def invalidate_inode(self, node: int, *, attributes_only: bool = False) -> None:
        self.inodes.append((node, attributes_only))


class Mounted:
    """Operations over a FakeEngine, with the answers that the tests expect at once."""

    def __init__(self, directory: Path, *, read_only: bool = False, root: Any = None, clock: Any = None) -> None:
        self.engine = FakeEngine(directory, clock=clock)
        self.kernel = RecordedKernel()
        self.notices = Notifier(self.kernel, name="test")
        self.ops = Operations(
            self.engine, self.notices, self.engine.clock, settings=Settings(read_only=read_only),
            root=root(self.engine) if callable(root) else root,
        )  # fmt: skip

    def walk(self, *names: bytes) -> int:
        """The number of the node at a path from the root."""
        number = 1
        for name in names:
            number = now(self.ops.lookup(number, name)).attr.no
        return number

    def names(self, number: int) -> list[bytes]:
        """Names of a directory but the dots."""
        handle = now(self.ops.opendir(number))
        names = [listed.name for listed in now(self.ops.readdir(handle, 0))]
        self.ops.releasedir(handle)
        assert names[:2] == [b".", b".."]
        return names[2:]

    def write_file(self, parent: int, name: bytes, data: bytes) -> int:
        """Create, write, close; the file's number."""
        created = now(self.ops.create(parent, name, 0o644, 2))
        assert self.ops.write(created.opened.handle, 0, data) == len(data)
        self.ops.flush(created.opened.handle)
        self.ops.release(created.opened.handle)
        number: int = created.entry.attr.no
        return number

    def read_file(self, number: int) -> bytes:
        """Open, read, close."""
        opened = now(self.ops.open(number, 0))
        data = b"".join(self.ops.read(opened.handle, 0, 1 << 20))
        self.ops.release(opened.handle)
        return data

    def told(self) -> list[tuple[int, bytes]]:
        """Entry notices that the kernel has got."""
        assert self.notices.wait_idle(10)
        return self.kernel.entries

    def close(self) -> None:
        assert self.notices.close(10)
        self.ops.check_invariants()
        self.engine.close()


def now(answer: Any) -> Any:
    """The value of an answer that must not wait; its failure is raised."""
    if isinstance(answer, Future):
        assert answer.done(), "this answer waits"
        return answer.result()
    return answer
