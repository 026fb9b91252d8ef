"""The engine process: the live trees behind a driver, and the backend behind messages.

``Engine`` is what a mount's directories are composed with (``fusedir.host.Engine``); ``EngineProcess`` builds all
parts, serves until the mount is gone, commits what is left and says what could not be. Threading: the main thread
belongs to the driver; ``supervisor-link`` reads the supervisor's messages; the housekeeper, the link and the deleting
of spool files have threads of their own. Failure: what cannot be built is told to the supervisor in one line. When the
supervisor dies the engine has the mount detached by a helper, commits and ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from arvfuse.backend import later
from arvfuse.backend.link import BackendLink
from arvfuse.backend.messages import Channel, Message, decode_record, encode_error
from arvfuse.drivers import unmounting
from arvfuse.errors import ArvfuseError, Busy, NoSuchRecord, StoreUnavailable
from arvfuse.fresh.node import Space
from arvfuse.fresh.pending import Pending, then
from arvfuse.fusedir.host import Settings as DirectorySettings
from arvfuse.fusefile import live_tree
from arvfuse.model.collections import CollectionRecord
from arvfuse.notify import Notifier
from arvfuse.operations import Operations
from arvfuse.ports import BlockStore, Clock
from arvfuse.sdk.checkpoints import Checkpoints
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import RESERVE_BYTES
from arvfuse.sdk.nodes import DirNode
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.workspace import DEFAULT_SPOOL_BYTES, Workspace
from arvfuse.settings import Settings
from arvfuse.supervisor.directories import DirectoryReader, open_answer
from arvfuse.supervisor.driving import Driver, make_driver
from arvfuse.supervisor.housekeeping import Housekeeper, Timing
from arvfuse.supervisor.mounting import Mounting
from arvfuse.supervisor.serving import FurtherMounts, Served, ServedMounts

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""How long one thread may hold the interpreter while a request waits for it; Python's own 5 ms is seen as a stall."""

_UNMOUNT_TRY_S: Final = 30.0
_BUSY_PAUSE_S: Final = 5.0
_RETRY_PAUSE_S: Final = 1.0
_MIN_SPOOL_BYTES: Final = 128 << 20
# Changes of records that need what is pending in the collection to be committed before.
_COMMIT_BEFORE: Final = frozenset({"trash", "rename"})


class RecordLink:
    """Requests about records as directories make them; pending changes of the record are committed first."""

    def __init__(self, link: BackendLink, engine: Engine) -> None:
        self._link: Final = link
        self._engine: Final = engine

    def request(self, op: str, **args: Any) -> Pending[dict[str, Any]]:
        """As BackendLink.request."""
        if op in _COMMIT_BEFORE:
            live = self._engine.opened(str(args["uuid"]))
            if live is not None and live.dirty:
                # Also when the commit fails: the record changes, what is pending is tried again or set aside.
                before: Pending[Any] = Future()
                self._engine.commit([live]).add_done_callback(lambda _: before.set_result(None))
                asked: dict[str, Any] | Pending[dict[str, Any]] = then(before, lambda _: self._link.request(op, **args))
                assert isinstance(asked, Future)  # what waits for a Future is one
                return asked
        return self._link.request(op, **args)


class Engine:
    """Live trees of one mount, each opened once however many ask for it."""

    def __init__(
        self, workspace: Workspace, link: BackendLink, housekeeper: Housekeeper, store: BlockStore,
        reader: DirectoryReader, *, read_write: bool,
    ) -> None:  # fmt: skip
        self.workspace: Final = workspace
        self.link: Final = RecordLink(link, self)
        self._backend: Final = link
        self._housekeeper: Final = housekeeper
        self._store: Final = store
        self._reader: Final = reader
        self._read_write: Final = read_write
        self._lock: Final = threading.Lock()  # a leaf: dict work only
        # By uuid or portable data hash; guarded by: _lock. Not the Pending of what is open: it keeps all who waited.
        self._opened: dict[str, Pending[LiveTree] | LiveTree] = {}
        self._identities: dict[int, str] = {}  # of open trees; guarded by: _lock

    def open_collection(self, identity: str) -> Pending[LiveTree]:
        """The live tree of a uuid or portable data hash. NoSuchRecord, StoreUnavailable."""
        with self._lock:
            known = self._opened.get(identity)
            if isinstance(known, Future):
                return known
            opening: Pending[LiveTree] = Future()
            if known is not None and known.retired:
                known = None
            if known is None:
                self._opened[identity] = opening
        if known is not None:
            opening.set_result(known)
            return opening
        answer = self._backend.request("open", id=identity)
        answer.add_done_callback(lambda done: self._came(identity, done, opening))
        return opening

    def open_content(self, file: Path, bound_s: float) -> LiveTree:
        """The tree of a manifest text in *file* that no record has; waits for the backend, which reads it.

        It is kept as an output: a recovery makes a collection of what was changed. InvalidManifest, StoreUnavailable,
        TimeoutError."""
        reply = self._backend.request("content", file=str(file)).result(bound_s)
        tree = self.workspace.open_tree(None, open_answer(reply), kind="output", writable=self._read_write)
        self._backend.request("provide", tree=tree.no, file=str(file)).result(bound_s)
        with tree.lock:
            tree.pdh = reply["pdh"]
            tree.rebase(tree.asof, tree.pdh)
        return tree

    def opened(self, identity: str) -> LiveTree | None:
        """The tree, if it is open."""
        with self._lock:
            known = self._opened.get(identity)
        return known if isinstance(known, LiveTree) else None

    def read_directory(self, directory: DirNode) -> Pending[None]:
        """The directory's names are there."""
        return self._reader.read(directory)

    def commit(self, trees: Sequence[LiveTree]) -> Pending[list[Outcome]]:
        """Everything that *trees* hold now is stored and saved. NotCommitted."""
        return self._housekeeper.commit(trees)

    def forget(self, live: LiveTree) -> None:
        """The tree was closed: the next who asks for it gets another."""
        with self._lock:
            identity = self._identities.pop(live.no, "")
            if self._opened.get(identity) is live:
                del self._opened[identity]

    def statfs(self) -> Space:
        """The store's room."""
        total, free = self._store.free_bytes()
        return Space(total, free)

    def room(self) -> Pending[None] | None:
        """None while the spool has room."""
        return self.workspace.room()

    def _came(self, identity: str, answer: Future[Message], opening: Pending[LiveTree]) -> None:
        try:
            reply = answer.result()
            record = decode_record(reply["entry"])
            if not isinstance(record, CollectionRecord):
                raise NoSuchRecord(f"{identity}: not a collection")
            manifest = open_answer(reply)
            if "+" in identity:
                live = self.workspace.open_tree(None, manifest, writable=False)
            else:
                live = self.workspace.open_tree(record, manifest, writable=self._read_write)
        except BaseException as failure:  # belongs to whoever waits for the tree, not to the link's thread
            with self._lock:
                self._opened.pop(identity, None)
            opening.set_exception(failure)
            return
        with self._lock:
            self._opened[identity] = live
            self._identities[live.no] = identity
        opening.set_result(live)


class StoreDurable(Operations):
    """With ``--durability=store``: fsync returns when blocks are stored and the record is saved."""

    def fsync(self, handle: int, datasync: bool = False) -> Pending[None] | None:
        """As Operations.fsync, then a commit of the file's collection."""
        super().fsync(handle, datasync)
        node = getattr(self._file(handle), "node", None)
        if node is None or node.parent is None:
            return None
        return then(self.host.engine.commit([live_tree(node)]), lambda _: None)

    def fsyncdir(self, handle: int, datasync: bool = False) -> Any:
        """As Operations.fsyncdir, then a commit of the directory's collection."""
        inside = self._directories.find(handle).directory.in_tree()
        if inside is None:
            return None
        return then(
            super().fsyncdir(handle, datasync),
            lambda _: then(inside, lambda found: then(self.host.engine.commit([live_tree(found[1])]), lambda _: None)),
        )


class EngineProcess:
    """The engine of one mount. run() returns the exit code of the process: 0 all committed, 7 not, 1 failed."""

    def __init__(
        self, mounting: Mounting, settings: Settings, store: BlockStore, clock: Clock, supervisor: Channel
    ) -> None:
        self._mounting: Final = mounting
        self._settings: Final = settings
        self._clock: Final = clock
        self._supervisor: Final = supervisor
        self._link: Final = BackendLink()
        directories: Final = DirectoryReader(self._link, settings.stall_bound)
        self._workspace: Final = Workspace(
            mounting.directory,
            mount=mounting.mount,
            store=store,
            clock=clock,
            boot_id=boot_id(),
            spool_bytes=settings.spool_bytes or default_spool_bytes(store),
            reserve_bytes=RESERVE_BYTES if settings.read_write else 0,
            stall_bound_s=settings.stall_bound,
            read_directory=directories.read_here,
        )
        self._housekeeper: Final = Housekeeper(
            self._workspace,
            self._link,
            clock,
            timing=Timing(quiet_s=settings.commit_quiet, deadline_s=settings.commit_deadline),
            read_write=settings.read_write,
            memory_bytes=settings.memory,
            index_of=directories.index_here,
        )
        self._engine: Final = Engine(
            self._workspace, self._link, self._housekeeper, store, directories, read_write=settings.read_write
        )
        self._served: Final = ServedMounts()
        self._further: Final = FurtherMounts(self._served, self._engine, clock, settings, self._tell)
        self._reader: Final = threading.Thread(target=self._read_supervisor, name="supervisor-link")
        self._told: Final = threading.Condition(threading.Lock())
        self._go = False  # guarded by: _told
        self._devices: list[
            int | None
        ] = []  # one, when it is mounted: a descriptor, None for llfuse; guarded by: _told
        self._driver: Driver | None = None  # set once
        self._ended = False  # guarded by: _told
        self._abandoned = False  # guarded by: _told
        self._orphaned = False  # guarded by: _told

    def run(self) -> int:
        """Wait until the supervisor says so, mount, serve, commit, end."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._link.start()
        self._reader.start()
        try:
            with self._told:
                self._told.wait_for(lambda: self._go or self._abandoned or self._orphaned)
                if not self._go:
                    return 1
            return self._serve()
        except (ArvfuseError, OSError) as error:
            self._tell({"told": "failed", "error": encode_error(error)})
            return 1
        finally:
            with self._told:
                self._ended = True
                self._told.notify_all()
            self._housekeeper.close()
            self._link.close()
            self._workspace.close()
            # The reader ends with the supervisor's socket, or when its descriptor is shut down.
            self._supervisor.shut()
            self._reader.join()

    def _serve(self) -> int:
        root: str | LiveTree | None = self._resolve_root()
        if self._mounting.content is not None:
            root = self._engine.open_content(self._mounting.content, self._settings.stall_bound)
        self._tell({"told": "resolved"})
        with self._told:
            self._told.wait_for(lambda: self._devices or self._abandoned or self._orphaned)
            if not self._devices:
                return 1
        mounting = self._mounting
        driver = make_driver(
            self._devices[0], mounting.mount, mounting.mountpoint, self._settings, root,
            on_end=lambda: self._tell({"told": "gone"}),
        )  # fmt: skip
        self._driver = driver
        self._further.use(driver)
        notifier = Notifier(driver.notices, name=mounting.mount)
        kind = StoreDurable if self._settings.durability == "store" else Operations
        operations = kind(
            self._engine,
            notifier,
            self._clock,
            settings=DirectorySettings(read_only=not self._settings.read_write, refresh_s=self._settings.refresh_time),
            root=root,
        )
        bound_s = self._settings.stall_bound
        self._served.add(0, Served(operations, notifier, lambda: driver.tick(bound_s), driver.close))
        self._housekeeper.start(self._served)
        self._tell({"told": "mounted"})
        reading = threading.Thread(target=later.read_modules, args=(later.ENGINE,), name="read-later")
        reading.start()
        try:
            driver.serve(operations)
        finally:
            reading.join()
            self._tell({"told": "unmounted"})
            self._served.end(0)
        left = self._commit_all() if self._settings.read_write else []
        if isinstance(root, LiveTree) and self._mounting.result is not None and not left:
            self._write_result(root, self._mounting.result)
        self._tell({"told": "ended", "left": left, "troubles": self._housekeeper.troubles})
        return 7 if left else 0

    def _resolve_root(self) -> str | None:
        """The identity of what is mounted, which is opened so that a mount of nothing fails before it is made."""
        wanted = self._mounting.root
        if wanted is None:
            return None
        bound = self._settings.stall_bound
        try:
            identity = str(self._link.request("resolve", id=wanted).result(bound)["id"])
            self._engine.open_collection(identity).result(bound)
        except TimeoutError:
            raise StoreUnavailable(f"{wanted}: no answer from the store within {bound:g} s; try again") from None
        return identity

    def _write_result(self, tree: LiveTree, result: Path) -> None:
        """What the tree has become; nothing if it was not changed."""
        committed = Checkpoints(self._mounting.directory)
        covered = committed.covered(tree.no)
        text = committed.text(covered.pdh) if covered is not None and covered.seq > 0 else None
        if text is not None:
            result.write_bytes(text)

    def _commit_all(self) -> list[str]:
        """Commit until nothing is left, the supervisor gives up, or the store makes no progress; what is left."""
        deadline = self._clock.monotonic() + self._settings.stall_bound
        why = ""
        while True:
            dirty = self._workspace.dirty()
            if not dirty:
                return []
            covered = {tree.no: tree.asof for tree in dirty}
            done = self._housekeeper.commit(dirty, keep_previous=True)
            done.add_done_callback(lambda _: self._notify_told())
            with self._told:
                self._told.wait_for(lambda: self._abandoned or done.done())  # noqa: B023 # same round
                if self._abandoned:
                    return _names(dirty, why or "given up")
            failure = done.exception()
            if failure is None and any(tree.asof > covered[tree.no] for tree in dirty):
                deadline = self._clock.monotonic() + self._settings.stall_bound
                continue
            why = str(failure or "nothing was committed")
            if self._clock.monotonic() >= deadline:
                return _names(dirty, why)
            with self._told:
                if self._told.wait_for(lambda: self._abandoned, _RETRY_PAUSE_S):
                    return _names(dirty, why)

    def _notify_told(self) -> None:
        with self._told:
            self._told.notify_all()

    # the supervisor

    def _read_supervisor(self) -> None:
        try:
            while (received := self._supervisor.receive()) is not None:
                self._obey(received.message, received.descriptors)
        except (OSError, ValueError):
            log.exception("the supervisor speaks nonsense")
        with self._told:
            self._orphaned = True
            self._told.notify_all()
            if self._ended or not self._go:
                return
        log.warning("the supervisor is gone; the mount is detached, committed and ended")
        self._detach_orphan()

    def _obey(self, message: Message, descriptors: Sequence[int]) -> None:
        do = message["do"]
        if do == "link":
            self._link.attach(Channel.of_descriptor(descriptors[0], self._mounting.directory / "messages"))
        elif do == "no_backend":
            self._link.refuse(message["why"])
        elif do == "serve":
            with self._told:
                self._go = True
                self._told.notify_all()
        elif do == "device":
            if message.get("key"):
                self._further.start(message["key"], descriptors[0] if descriptors else None)
                return
            with self._told:
                self._devices.append(descriptors[0] if descriptors else None)
                self._told.notify_all()
        elif do == "further":
            self._further.resolve(message["key"], message["root"])
        elif do == "no_device":
            self._further.cancel(message["key"])
        elif do == "commit":
            done = self._housekeeper.commit(self._workspace.dirty(), keep_previous=bool(message.get("keep_previous")))
            done.add_done_callback(self._tell_committed)
        elif do == "abandon":
            with self._told:
                self._abandoned = True
                self._told.notify_all()
        elif do == "status":
            self._tell({"told": "status", "status": self._status()})
        elif do == "dump":
            log.info("engine: %r %r %r", self._workspace.log, self._housekeeper, self._link)
            faulthandler.dump_traceback(all_threads=True)

    def _tell_committed(self, done: Future[list[Outcome]]) -> None:
        failure = done.exception()
        left = [] if failure is None else _names(self._workspace.dirty(), str(failure))
        self._tell({"told": "committed", "left": left, "troubles": self._housekeeper.troubles})

    def _status(self) -> Message:
        spool = self._workspace.shared.spool
        return {
            "pending": [tree.uuid or str(tree.no) for tree in self._workspace.dirty()],
            "spool_bytes": spool.level,
            "spool_limit_bytes": spool.limit,
            "spool_waiting": spool.waiting,
            "blocks": Counter(block.state.name.lower() for block in self._workspace.shared.blocks.all()),
            "log_seq": self._workspace.log.flushed_seq,
            "troubles": self._housekeeper.troubles,
            "driver": self._driver.status() if self._driver is not None else {},
            "mounts": len(self._served),
        }

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone: our reader knows
            self._supervisor.send(message)

    def _detach_orphan(self) -> None:
        """Nobody else is left to end the mount. Who uses it may go on until then; their changes are committed."""
        lazy = False
        while not self._has_ended(0):
            try:
                unmounting.unmount(self._mounting.mountpoint, lazy=lazy, timeout_s=_UNMOUNT_TRY_S)
                return
            except Busy:
                self._housekeeper.commit(self._workspace.dirty())
                lazy = True  # no new users; the mount ends with its last one
            except (ArvfuseError, OSError) as error:
                log.warning("%s", error)
                if self._has_ended(_BUSY_PAUSE_S):
                    return

    def _has_ended(self, wait_s: float) -> bool:
        with self._told:
            return self._told.wait_for(lambda: self._ended, wait_s)


def default_spool_bytes(store: BlockStore) -> int:
    """min(8 GiB, a tenth of what is free), but two blocks at least."""
    _, free = store.free_bytes()
    return min(DEFAULT_SPOOL_BYTES, max(_MIN_SPOOL_BYTES, free // 10))


def boot_id() -> bytes:
    """16 bytes that are others after a reboot; zeros where the system does not say."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def _names(trees: Sequence[LiveTree], why: str) -> list[str]:
    return [f"{tree.record.name if tree.record else tree.no} ({tree.uuid}): {why}" for tree in trees]
