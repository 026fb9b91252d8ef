"""The two processes that a supervisor forks, and what each of them is from its first instruction.

Forking belongs to the supervisor, which has one thread and no database open. A child keeps the descriptors that are
its part (standard streams, its sockets, the mount's lock, what carries its log) and closes every other; it ignores
TERM, INT and HUP, because the supervisor obeys them for all three. Failure: what a child could not open it tells to
the supervisor; an exception that nobody foresaw is logged and the process ends with 70.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import logging
import os
import resource
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from arvfuse.backend import later
from arvfuse.backend.messages import Channel, encode_error
from arvfuse.clock import SystemClock
from arvfuse.drivers import unmounting
from arvfuse.drivers.kernel.mountpoint import unmount
from arvfuse.errors import ArvfuseError
from arvfuse.settings import Settings
from arvfuse.supervisor.driving import mount_device, mount_further
from arvfuse.supervisor.holders import holders
from arvfuse.supervisor.mountinfo import mounted_as
from arvfuse.supervisor.mounting import Mounting
from arvfuse.sync import check_lock_order

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger(__name__)

Helper: TypeAlias = "subprocess.Popen[str]"
"""The program that unmounts."""

_BUG: Final = 70  # EX_SOFTWARE
_STANDARD: Final = (0, 1, 2)
_DESCRIPTORS: Final = 65536  # big manifests and records of every collection in use are mapped, each by a descriptor


_COLLECT_AFTER: Final = (20_000, 20, 20)
BACKEND_NICENESS: Final = 10
"""Where all CPUs are busy, requests go before commits: with two of them creates ran at half their rate otherwise."""


class Child:
    """A forked process: it is waited for once, and never signalled after that (its number may be another's)."""

    def __init__(self, process: int) -> None:
        self.process: Final = process
        self._ended = False

    def __repr__(self) -> str:
        return f"<Child {self.process}{' ended' if self._ended else ''}>"

    def has_ended(self, *, wait: bool = False) -> bool:
        """True if it has ended; with *wait* it is waited for."""
        if not self._ended:
            try:
                self._ended = os.waitpid(self.process, 0 if wait else os.WNOHANG)[0] == self.process
            except ChildProcessError:
                self._ended = True
        return self._ended

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        if not self.has_ended():
            os.kill(self.process, number)


class Processes:
    """Starts the processes of one mount. *keep*: descriptors that all of them share (the lock)."""

    def __init__(self, mounting: Mounting, settings: Settings, keep: Collection[int]) -> None:
        self._mounting: Final = mounting
        self._settings: Final = settings
        self._keep: Final = frozenset(keep)
        self._has_started = False  # a backend

    def start_engine(self, supervisor: Channel) -> Child:
        """Fork the engine. *supervisor*: its end of the conversation."""

        def body() -> int:
            # In the child: while it reads its modules, the supervisor reads those of the backend.
            from arvfuse.backend.parts import open_blocks
            from arvfuse.supervisor.engine import EngineProcess

            check_lock_order(self._settings.debug)
            clock = SystemClock()
            try:
                store = open_blocks(
                    self._settings.store,
                    clock=clock,
                    create=self._settings.read_write,
                    read_only=not self._settings.read_write,
                    unsafe_filesystem=self._settings.unsafe_filesystem,
                    lazily=True,  # the backend looks at once
                )
                engine = EngineProcess(self._mounting, self._settings, store, clock, supervisor)
            except (ArvfuseError, OSError) as error:
                supervisor.send({"told": "failed", "error": encode_error(error)})
                return 1
            try:
                return engine.run()
            finally:
                store.close()

        return fork(body, "engine", {supervisor.fileno(), *self._keep})

    def start_backend(self, supervisor: Channel, engine: Channel) -> Child:
        """Fork a backend. *engine*: its end of the socket to the engine."""
        # Before the fork, and once: the next backend is of the same version, whatever was installed since. What it does
        # not need to begin with is read later, see prepare_end().
        from arvfuse.backend.parts import open_parts
        from arvfuse.backend.server import Backend, Serving

        importlib.import_module("arvfuse.catalogs.sqlite")  # which open_parts() needs
        if self._has_started:
            self.prepare_end()
        self._has_started = True

        def body() -> int:
            os.nice(BACKEND_NICENESS)
            check_lock_order(self._settings.debug)
            try:
                parts = open_parts(
                    self._settings.store,
                    clock=SystemClock(),
                    create=self._settings.read_write,
                    read_only=not self._settings.read_write,
                    unsafe_filesystem=self._settings.unsafe_filesystem,
                )
            except (ArvfuseError, OSError) as error:
                supervisor.send({"told": "failed", "error": encode_error(error)})
                return 1
            serving = Serving(
                mount=self._mounting.mount,
                directory=self._mounting.directory,
                read_write=self._settings.read_write,
            )
            try:
                return Backend(parts, serving, engine, supervisor).run()
            finally:
                parts.close()

        return fork(body, "backend", {supervisor.fileno(), engine.fileno(), *self._keep})

    def prepare_mount(self) -> None:
        """Read what mounting needs, while the processes read what is theirs."""
        if self._settings.driver != "llfuse":
            importlib.import_module("ctypes")

    def prepare_end(self) -> None:
        """Read what only the end of a mount and the next backend need: when nobody waits for it, before anything has
        failed, and of the version that runs."""
        later.read_modules(("shutil", "subprocess", *later.BACKEND))

    def start_unmount(self, *mountpoints: Path, lazy: bool) -> subprocess.Popen[str]:
        """Execute the helper that unmounts *mountpoints* (ours if none are named); what it says is on its standard
        error."""
        import subprocess  # by then the mount runs

        return subprocess.Popen(
            unmounting.command(*(mountpoints or (self._mounting.mountpoint,)), lazy=lazy),
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def mount_device(self) -> int | None:
        """Mount by the kernel driver; its descriptor. None: the engine is to mount by llfuse."""
        return mount_device(self._mounting.mount, self._mounting.mountpoint, self._settings)

    def mount_further(self, mountpoint: Path, key: int) -> int:
        """A further mount's connection; *key* tells it from the first in the mount table."""
        return mount_further(self._mounting.mount, key, mountpoint, self._settings)

    def unmount_further(self, mountpoint: Path, *, lazy: bool) -> None:
        """End a further mount, at once: nothing has to be asked for that. Busy; PermissionError: a helper can."""
        unmount(mountpoint, lazy=lazy)

    def is_mounted(self) -> bool:
        """True if the kernel has the mount in our table."""
        return mounted_as(self._mounting.mount) is not None

    def holders(self) -> list[str]:
        """Who uses the mount, for a message."""
        entry = mounted_as(self._mounting.mount)
        return [str(holder) for holder in holders(entry.mountpoint, device=entry.device)] if entry else []


def fork(body: Callable[[], int], name: str, keep: Collection[int]) -> Child:
    """A child that runs *body* and exits with what it returns. The process has one thread."""
    gc.freeze()  # what is garbage here shall not be collected, page by page, in each child
    process = os.fork()
    if process:
        return Child(process)
    code = _BUG
    try:
        _become(name, {*_STANDARD, *keep})
        code = body()
    except BaseException:  # top of a process
        log.exception("the %s failed", name)
    finally:
        logging.shutdown()
        os._exit(code)  # never back into the supervisor's stack


def _become(name: str, keep: Collection[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Nodes of trees live long and form few cycles: looking through all of them again and again took a quarter of a
    # commit's time. What exists now is never garbage.
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    _close_all_but(keep)
    _raise_descriptor_limit()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    with contextlib.suppress(OSError):  # only what ps shows
        Path("/proc/self/comm").write_text(f"arvfuse-{name}"[:15])


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _close_all_but(keep: Collection[int]) -> None:
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        if descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the descriptor by which the directory was read
