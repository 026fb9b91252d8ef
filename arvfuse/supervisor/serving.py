"""The mounts that one engine answers: the first, and read-only ones that came later.

A further mount begins in three steps, none of which waits: what it shows is resolved, whoever may mount does, and the
connection is served (``resolve``, ``start``). All share the engine's open trees, so a change that comes from elsewhere
is shown in each of them. They end one by one. Threading: any thread; locks guard tables and nothing slow happens under
them. Failure: told to the supervisor, for whoever asked.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from arvfuse.backend.messages import Message, encode_error
from arvfuse.drivers.kernel.driver import KernelDriver
from arvfuse.drivers.notices import DeviceNotices
from arvfuse.errors import ArvfuseError, NotSupported
from arvfuse.fresh.pending import then
from arvfuse.fusedir.host import Engine
from arvfuse.fusedir.host import Settings as DirectorySettings
from arvfuse.model.collections import Change
from arvfuse.notify import Notifier
from arvfuse.operations import Operations
from arvfuse.ports import Clock
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode
from arvfuse.settings import Settings
from arvfuse.supervisor.driving import Driver, wanted

SPARE_DESCRIPTORS: Final = 256  # for the files of all mounts
_NOTIFY_CLOSE_S: Final = 10.0


class Served(NamedTuple):
    """One mount. *tick*: fails what waited too long; *close*: frees its connection, when it is gone and its notifier is
    closed."""

    operations: Operations
    notifier: Notifier
    tick: Callable[[], None]
    close: Callable[[], None]


class ServedMounts:
    """By the key that the supervisor gave each; 0 is the first. It is what the housekeeper shows changes to."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()  # a leaf
        self._served: dict[int, Served] = {}  # guarded by: _lock

    def __len__(self) -> int:
        return len(self._served)

    def add(self, key: int, served: Served) -> None:
        """A mount is about to be served."""
        with self._lock:
            self._served[key] = served

    def end(self, key: int) -> None:
        """The mount is gone."""
        with self._lock:
            served = self._served.pop(key, None)
        if served is not None:
            served.notifier.close(_NOTIFY_CLOSE_S)
            served.close()

    # housekeeping.Shown

    def name_changed(self, directory: DirNode, name: bytes) -> None:
        """A merge or a refresh put another node, or none, under *name*."""
        for served in self._all():
            served.operations.name_changed(directory, name)

    def record_changed(self, change: Change) -> None:
        """The catalog told of a change."""
        for served in self._all():
            served.operations.record_changed(change)

    def expire(self) -> bool:
        """One step after lost notices; True if nothing is left to do. Also what is to be done now and then."""
        for served in self._all():
            served.tick()
        done = [served.operations.expire() for served in self._all()]  # each takes its step
        return all(done)

    def knows(self, number: int) -> bool:
        """Whether any of the mounts' kernels holds the number."""
        return any(served.operations.knows(number) for served in self._all())

    def trees_in_use(self) -> set[int]:
        """The trees of which any of the kernels knows a node, or has one open."""
        return set().union(*(served.operations.trees_in_use() for served in self._all()))

    def tree_closed(self, live: LiveTree) -> None:
        """A tree that was not in use was closed."""
        for served in self._all():
            served.operations.tree_closed(live)

    def _all(self) -> list[Served]:
        with self._lock:
            return list(self._served.values())


class FurtherMounts:
    """Begins further mounts in the engine. *link*: answers ``resolve``; *tell*: says to the supervisor how it went."""

    def __init__(
        self, served: ServedMounts, engine: Engine, clock: Clock, settings: Settings, tell: Callable[[Message], None]
    ) -> None:
        self._served: Final = served
        self._engine: Final = engine
        self._clock: Final = clock
        self._settings: Final = settings
        self._tell: Final = tell
        self._lock: Final = threading.Lock()  # a leaf
        self._roots: dict[int, str | None] = {}  # resolved, not started yet; guarded by: _lock
        self._driver: KernelDriver | None = None  # set once, before the first

    def use(self, driver: Driver) -> None:
        """What serves them, if it can."""
        if isinstance(driver, KernelDriver):
            self._driver = driver

    def resolve(self, key: int, root: str | None) -> None:
        """Find out what *root* (None: the store) is, and have it mounted."""
        if self._driver is None:
            self._failed(key, NotSupported("llfuse", "one mount a process; mount with --driver kernel"))
            return
        if self._settings.read_write:
            self._failed(key, NotSupported("--read-write", "further mounts are read-only, of a read-only mount"))
            return
        if root is None:
            self._resolved(key, None)
            return
        # What is known by its number is asked for as it is; names need the catalog.
        answer: Any = self._engine.link.request("resolve", id=root)
        opened: Any = then(
            answer, lambda reply: then(self._engine.open_collection(str(reply["id"])), lambda _: reply["id"])
        )
        done: Future[Any] = opened if isinstance(opened, Future) else Future()
        if done is not opened:
            done.set_result(opened)
        done.add_done_callback(lambda source: self._came(key, source))

    def start(self, key: int, device: int | None) -> None:
        """It is mounted: answer it. *device*: the connection, None if there was no descriptor for it."""
        with self._lock:
            known = key in self._roots
            root = self._roots.pop(key, None)
        if device is not None and device >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS:
            os.close(device)
            device = None
        if device is None:
            self._failed(
                key, ArvfuseError("no descriptor is left for another mount (ulimit -n); end one that is not used")
            )
            return
        if not known or self._driver is None:
            os.close(device)
            return
        notices = DeviceNotices(device, share=True)  # there may be ten thousand of them
        notifier = Notifier(notices, name=f"further-{key}")
        settings = DirectorySettings(read_only=True, refresh_s=self._settings.refresh_time)
        operations = Operations(self._engine, notifier, self._clock, settings=settings, root=root)
        session = self._driver.add(device, operations, wanted(self._settings, root), on_end=lambda: self._ended(key))

        bound_s = self._settings.stall_bound

        def close() -> None:
            notices.close()
            session.close()

        self._served.add(key, Served(operations, notifier, lambda: session.fail_stalled(bound_s), close))
        self._tell({"told": "mounted", "key": key})

    def cancel(self, key: int) -> None:
        """It could not be mounted."""
        with self._lock:
            self._roots.pop(key, None)

    def _came(self, key: int, source: Future[Any]) -> None:
        failure = source.exception()
        if failure is None:
            self._resolved(key, str(source.result()))
        else:
            self._failed(key, failure)

    def _resolved(self, key: int, root: str | None) -> None:
        with self._lock:
            self._roots[key] = root
        self._tell({"told": "resolved", "key": key})

    def _failed(self, key: int, failure: BaseException) -> None:
        error = failure if isinstance(failure, ArvfuseError) else ArvfuseError(str(failure))
        self._tell({"told": "failed", "key": key, "error": encode_error(error)})

    def _ended(self, key: int) -> None:
        self._served.end(key)
        self._tell({"told": "gone", "key": key})
