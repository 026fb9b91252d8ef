"""From a command line to a running mount: what can be checked first is checked first, then the supervisor is forked.

The launcher has no thread, no database and no socket when it forks. In the background it waits on a pipe until the
mount is ready and hands on what went wrong. Failure: a class of arvfuse.errors whose text is the line for the user;
nothing stays behind.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from arvfuse.backend import mountdirs
from arvfuse.backend.messages import Message, decode_error, encode_error
from arvfuse.backend.mountdirs import MountDirectory
from arvfuse.clock import SystemClock
from arvfuse.drivers import unmounting
from arvfuse.errors import (
    ArvfuseError,
    Busy,
    NoSuchEntry,
    NotADirectory,
    NotPermitted,
    NotSupported,
    ReadOnly,
    UsageError,
)
from arvfuse.settings import Settings
from arvfuse.stores.filesystems import refuse_unsafe
from arvfuse.supervisor import control
from arvfuse.supervisor.children import Processes
from arvfuse.supervisor.driving import has_llfuse
from arvfuse.supervisor.mountinfo import mounted_at, real_path
from arvfuse.supervisor.mounting import Mounting
from arvfuse.supervisor.supervise import Supervisor

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

log = logging.getLogger(__name__)

_RELEASE_S: Final = 10.0
_DEVICE: Final = Path("/dev/fuse")
_LOG_NAME: Final = "log.txt"
_LOG_FORMAT: Final = "%(asctime)s %(name)s[%(process)d] %(levelname)s: %(message)s"
_TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S"


def launch(
    settings: Settings,
    mountpoint: Path,
    environment: Mapping[str, str],
    *,
    root: str | None = None,
    content: Path | None = None,
    result: Path | None = None,
    foreground: bool = False,
    ready_fd: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Mount the store, or collection *root* of it, at *mountpoint*; the exit code.

    Returns when the mount is ready, or in the foreground when it has ended. *ready_fd* is a pipe that is told, in one
    JSON line, that the mount is ready or why it is not. *content*, *result*: see Mounting.
    *say* is told what else its user should know, a line each."""
    tell = _teller(ready_fd)
    try:
        release_dead(mountpoint, environment, settings.store)
        mountpoint = check_mountpoint(mountpoint)
        check_fuse(driver=settings.driver)
        prepare_store(settings)
    except ArvfuseError as error:
        tell({"error": encode_error(error)})
        raise

    def mounting(directory: MountDirectory) -> Mounting:
        return Mounting(
            mount=directory.mount,
            directory=directory.path,
            mountpoint=mountpoint,
            root=root,
            content=content,
            result=result,
        )

    if foreground:
        return _supervise(settings, environment, tell, mounting, background=False)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(writer)
        return _await_ready(reader, say)
    os.close(reader)
    code = 70
    try:
        os.setsid()
        code = _supervise(settings, environment, _teller(writer), mounting, background=True)
    except BaseException:  # top of a process
        log.exception("the supervisor failed")
    finally:
        logging.shutdown()
        os._exit(code)


def release_dead(mountpoint: Path, environment: Mapping[str, str], store: Path) -> Path | None:
    """Detach a mount of ours whose processes were killed; its directory, None if there is no such thing there."""
    entry = mounted_at(real_path(mountpoint))
    if entry is None or entry.mount is None:
        return None
    dead = control.find_dead(entry.mount, environment, store)
    if dead is not None:
        unmounting.unmount(entry.mountpoint, lazy=True, timeout_s=_RELEASE_S)
    return dead


def check_mountpoint(mountpoint: Path) -> Path:
    """Its real path if it can be mounted on: NoSuchEntry, NotADirectory, Busy."""
    real = real_path(mountpoint)
    taken = mounted_at(real)
    if taken is not None and taken.mount is not None:
        raise Busy(f"{mountpoint}: something is mounted there already ({taken.source}); `arvfuse unmount` it first")
    try:
        names = os.listdir(real)
    except FileNotFoundError:
        raise NoSuchEntry(str(mountpoint), "no such directory; make it with mkdir") from None
    except NotADirectoryError:
        raise NotADirectory(str(mountpoint), "not a directory; choose one to mount on") from None
    except OSError as error:
        raise Busy(
            f"{mountpoint}: {os.strerror(error.errno or errno.EIO)}; if a dead mount is left there, "
            f"detach it with `umount --lazy` or `fusermount3 -uz`"
        ) from None
    if names:
        raise Busy(f"{mountpoint}: not empty; choose an empty directory")
    return real


def check_fuse(device: Path = _DEVICE, *, driver: str = "auto") -> None:
    """What the kernel and the libraries must offer: NotSupported, NotPermitted, with what to do."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise NotSupported(
            str(device), "missing; load the kernel's fuse module (modprobe fuse), or give the container the device"
        ) from None
    except OSError as error:
        raise NotPermitted(
            str(device), f"cannot be opened ({os.strerror(error.errno or errno.EIO)}); ask for access to it"
        ) from None
    if os.geteuid() != 0:
        from shutil import which  # for those who need a helper; it reads three compressors

        if not (which("fusermount") or which("fusermount3")):
            raise NotSupported("fusermount", "not installed; install the package fuse3 (or fuse)")
    if driver == "llfuse" and not has_llfuse():
        raise NotSupported("llfuse", "not installed; install it with pip install 'arvfuse[llfuse]'")


def prepare_store(settings: Settings) -> None:
    """The directory of a read-write mount's store exists and can be written; that of a read-only one is a store."""
    store = settings.store
    if not settings.unsafe_filesystem:
        refuse_unsafe(store)
    if not settings.read_write:
        if not (store / "blocks").is_dir():
            raise NoSuchEntry(
                str(store), "no store here; a mount with --read-write makes one, or choose another --store"
            )
        return
    try:
        store.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectory(str(store), "not a directory, so not a store; choose another --store") from None
    except NotADirectoryError:
        raise NotADirectory(str(store), "its path goes through a file; choose another --store") from None
    except OSError as error:
        raise _cannot_write(store, error) from error
    if not os.access(store, os.W_OK | os.X_OK, effective_ids=True):
        raise _cannot_write(store, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _cannot_write(store: Path, error: OSError) -> ArvfuseError:
    why = os.strerror(error.errno or errno.EIO)
    if error.errno == errno.EROFS:
        return ReadOnly(str(store), "on a read-only file system; mount with --read-only, or choose another --store")
    return NotPermitted(str(store), f"cannot be written ({why}); mount with --read-only, or choose another --store")


def _teller(ready_fd: int | None) -> Callable[[Message], None]:
    """Tells the pipe once, then closes it."""
    pipe = [ready_fd] if ready_fd is not None else []

    def tell(message: Message) -> None:
        if pipe:
            descriptor = pipe.pop()
            try:
                os.write(descriptor, json.dumps(message).encode() + b"\n")
            except BrokenPipeError:
                log.warning("whoever started the mount did not wait for it")
            os.close(descriptor)

    return tell


def _await_ready(reader: int, say: Callable[[str], None]) -> int:
    with open(reader, "rb") as pipe:
        line = pipe.readline()
    if not line:
        raise ArvfuseError("the mount ended before it was ready; try --foreground --debug")
    message: dict[str, Any] = json.loads(line)
    if "error" in message:
        raise decode_error(message["error"])
    for news in _news(message.get("recovery", {})):
        say(news)
    return 0


def _news(recovery: Mapping[str, Any]) -> Iterator[str]:
    """What a user has to know of other mounts of the store."""
    for mount in recovery.get("waiting", ()):
        yield f"mount {mount}: died with changes; `arvfuse recover` or a read-write mount commits them"
    for mount in recovery.get("draining", ()):
        yield f"mount {mount}: still commits what it has; that arrives here as changes from elsewhere"
    for result in recovery.get("results", ()):
        for line in (*result["quarantined"], *result["left"]):
            yield f"mount {result['mount']}: {line}; see `arvfuse recover`"


def _supervise(
    settings: Settings,
    environment: Mapping[str, str],
    tell_ready: Callable[[Message], None],
    mounting_in: Callable[[MountDirectory], Mounting],
    *,
    background: bool,
) -> int:
    told: list[Message] = []

    def tell_once(message: Message) -> None:
        if not told:
            told.append(message)
            tell_ready(message)

    code, failure = 1, None
    try:
        directory, temporary = _make_directory(settings)
        try:
            _start_log(settings, directory.path, background=background)
            os.chdir("/")
            mounting = mounting_in(directory)
            registry = control.register(directory.path, directory.mount, environment)
            processes = Processes(mounting, settings, {directory.lock})
            supervisor = Supervisor(mounting, settings, SystemClock(), processes, tell_once)
            try:
                code = supervisor.run()
            finally:
                registry.unlink(missing_ok=True)
            try:
                if supervisor.is_clean:
                    _remove(settings, directory)
            finally:
                supervisor.report()
        finally:
            directory.unlock()
            if temporary is not None:
                temporary.cleanup()
    except (ArvfuseError, OSError) as error:
        failure = error
    if failure is not None:
        tell_once({"error": encode_error(failure)})
        if not background:
            raise failure
    if not background and told and "error" in told[0]:
        raise decode_error(told[0]["error"])
    return code


def _make_directory(settings: Settings) -> tuple[MountDirectory, TemporaryDirectory[str] | None]:
    """The mount's directory in the store; in a temporary place if a read-only mount's store cannot be written."""
    try:
        return mountdirs.create(settings.store), None
    except (NotPermitted, ReadOnly):
        if settings.read_write:
            raise
    from tempfile import TemporaryDirectory  # of a store that cannot be written alone

    temporary = TemporaryDirectory(prefix="arvfuse-", ignore_cleanup_errors=True)
    return mountdirs.create(Path(temporary.name)), temporary


def _start_log(settings: Settings, directory: Path, *, background: bool) -> None:
    level = logging.DEBUG if settings.debug else logging.ERROR if settings.quiet else logging.WARNING
    if background or settings.logfile is not None:
        path = settings.logfile if settings.logfile is not None else directory / _LOG_NAME
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageError(
                f"--logfile {path}: {os.strerror(error.errno or errno.EIO)}; choose a file that can be written"
            ) from error
        os.dup2(descriptor, 2)  # also what the interpreter and libfuse have to say
        os.close(descriptor)
        level = min(level, logging.INFO)
    if background:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
    logging.basicConfig(level=level, format=_LOG_FORMAT, datefmt=_TIME_FORMAT, stream=sys.stderr, force=True)


def _remove(settings: Settings, directory: MountDirectory) -> None:
    """Nothing is left to recover: the directory goes, then the rows that say what of its log was applied."""
    from arvfuse.backend.parts import open_parts  # when all is over: no mount waits for it

    had_changes = mountdirs.has_changes(directory.path)
    directory.remove()
    if settings.read_write and had_changes:
        try:
            parts = open_parts(settings.store, clock=SystemClock(), unsafe_filesystem=settings.unsafe_filesystem)
        except (ArvfuseError, OSError) as error:
            log.warning("rows of mount %s stay in the catalog: %s", directory.mount, error)
            return
        try:
            parts.catalog.forget_applied(directory.mount)
        finally:
            parts.close()
