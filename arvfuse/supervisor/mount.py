"""``Mount``: a mount as a Python object, served by processes of its own.

The process that answers a mount must never use it, so there is no mount inside a process: the engine is started by
executing the interpreter anew. Threading: one thread at a time; any number of mounts. Failure: classes of
arvfuse.errors, as the command line would report them; leaving the ``with`` block raises NotCommitted or Busy if not
everything was committed, and never waits longer than *deadline_s*.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from arvfuse.backend.messages import decode_error
from arvfuse.errors import (
    ArgumentError,
    ArvfuseError,
    Busy,
    NoSuchEntry,
    NotADirectory,
    NotCommitted,
    StoreUnavailable,
)
from arvfuse.model.collections import MountId
from arvfuse.sdk.collection import Collection
from arvfuse.supervisor import control
from arvfuse.supervisor.mountinfo import real_path

_READY_S: Final = 60.0
_GRACE_S: Final = 30.0
_STDERR_BYTES: Final = 4096


class Mount:
    """``with arvfuse.Mount(store=DIR, mountpoint=PLACE, read_write=True) as mount: ...``

    *store*: a directory. *mountpoint*: an empty directory, None: a temporary one, removed afterwards. *collection*: a
    uuid, a portable data hash, ``name@version`` or ``home/NAME`` as the root. *content*: an SDK collection of that
    store, saved or not, whose content is the root instead; after a read-write mount it has the changes (merged, if it
    was changed meanwhile), unsaved. *options*: further long options of ``arvfuse mount``, e.g.
    ``{"commit-quiet": "0.5"}``. *deadline_s*: how long the end may wait for the store."""

    def __init__(
        self,
        *,
        store: str | os.PathLike[str],
        mountpoint: str | os.PathLike[str] | None = None,
        read_write: bool = False,
        collection: str | None = None,
        content: Collection | None = None,
        options: dict[str, str | bool] | None = None,
        deadline_s: float | None = None,
    ) -> None:
        self._store: Final = Path(store).absolute()
        self._asked: Final = Path(mountpoint).absolute() if mountpoint is not None else None
        self._read_write: Final = read_write
        self._collection: Final = collection
        self._content: Final = content
        self._options: Final = dict(options or {})
        self._deadline_s: Final = deadline_s
        self._stack: Final = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._place: Path | None = None
        self._mount: MountId | None = None
        self._result: Path | None = None
        self._control: Path | None = None  # found at first use

    def __repr__(self) -> str:
        state = "mounted" if self._process is not None else "not mounted"
        return f"<Mount {state} {self._place or self._asked} of {self._store}>"

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        if self._place is None or self._process is None:
            raise ArgumentError("not mounted")
        return self._place

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(ArvfuseError):  # what went wrong inside is what the caller wants to see
            self.close()

    def start(self) -> None:
        """Mount; returns when it is ready."""
        if self._process is not None:
            raise ArgumentError(f"{self._place}: mounted already")
        with contextlib.ExitStack() as undo:
            place = self._asked
            if place is None:
                place = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="arvfuse-mount-")))
            place = real_path(place)
            content = self._hand_over(undo)
            reader, writer = os.pipe()
            undo.callback(os.close, reader)
            errors = undo.enter_context(tempfile.TemporaryFile())
            try:
                process = subprocess.Popen(
                    [*self._command(writer), *content, "--", str(place)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(writer,),
                    start_new_session=True,  # an interrupt of ours is not one of the mount
                    env={**os.environ, "PYTHONPATH": _python_path()},
                )
            finally:
                os.close(writer)
            self._mount = self._await_ready(process, reader, errors)
            self._process, self._place = process, place
            self._stack.push(undo.pop_all())  # what is temporary lives as long as the mount

    def close(self) -> None:
        """Unmount, commit everything, end. NotCommitted, Busy (then it is mounted still). Harmless when repeated."""
        process, mount = self._process, self._mount
        if process is None or mount is None:
            return
        answer: dict[str, Any] = {}
        with contextlib.suppress(ArvfuseError):  # ended by somebody else: its exit code says how
            directory = control.find(mount, os.environ, self._store)
            timeout_s = None if self._deadline_s is None else self._deadline_s + _GRACE_S
            answer = control.ask(directory, {"op": "drain", "deadline_s": self._deadline_s}, timeout_s=timeout_s)
        if answer.get("busy") is not None:
            raise Busy(f"{self._place}: in use by {', '.join(answer['busy']) or 'somebody'}; close that first")
        if answer.get("goes_on"):
            raise NotCommitted(f"{self._place}: {'; '.join(answer['left'])}")
        code = process.wait(_GRACE_S)
        place = self._place
        self._process = self._mount = self._place = self._control = None
        try:
            self._take_back()
        finally:
            self._stack.close()
        if code == 7:
            raise NotCommitted(f"{place}: {'; '.join(answer.get('left', [])) or 'not everything is committed'}")
        if code != 0:
            raise StoreUnavailable(f"{place}: {'; '.join(answer.get('troubles', [])) or f'ended with {code}'}")

    def add(self, mountpoint: str | os.PathLike[str], *, collection: str | None = None) -> Path:
        """A further, read-only mount at an empty directory, answered by the same processes; a few milliseconds.

        For a read-only mount with the kernel driver. *collection*: as the root; None: the store. It ends with
        remove(), with a plain umount, or with this mount. NoSuchRecord, Busy, NotSupported."""
        place = _opened_path(mountpoint)
        if os.listdir(place):
            raise Busy(f"{mountpoint}: not empty; choose an empty directory")
        self._ask({"op": "mount", "mountpoint": str(place), "collection": collection})
        return place

    def remove(self, mountpoint: str | os.PathLike[str], *, lazy: bool = False) -> None:
        """End a mount that add() made. Busy if it is used (unless *lazy*)."""
        self._ask({"op": "unmount", "mountpoint": str(_opened_path(mountpoint)), "lazy": lazy})

    def _ask(self, request: dict[str, Any]) -> None:
        if self._mount is None:
            raise ArgumentError("not mounted")
        if self._control is None:
            self._control = control.find(self._mount, os.environ, self._store)
        answer = control.ask(self._control, request, timeout_s=_READY_S)
        if "error" in answer:
            raise decode_error(answer["error"])

    def _hand_over(self, undo: contextlib.ExitStack) -> list[str]:
        """Have the content's blocks stored and its text in a file; the options that say so."""
        if self._content is None:
            return []
        place = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="arvfuse-content-")))
        text = self._content.manifest_text()
        (place / "content").write_bytes(text.encode("utf-8", "surrogateescape"))
        self._result = place / "result"
        return [f"--content={place / 'content'}", f"--result={self._result}"]

    def _take_back(self) -> None:
        """Bring what was changed in the mount into the collection."""
        if self._content is None or self._result is None or not self._result.exists():
            return
        changed = self._result.read_bytes().decode("utf-8", "surrogateescape")
        before = (self._result.parent / "content").read_bytes().decode("utf-8", "surrogateescape")
        base = Collection(before, host=self._content.host)
        after = Collection(changed, host=self._content.host)
        self._content.apply(base.diff(after))

    def _command(self, ready_fd: int) -> list[str]:
        command = [sys.executable, "-m", "arvfuse", "mount", "--foreground", f"--ready-fd={ready_fd}"]
        command += [f"--store={self._store}", "--read-write" if self._read_write else "--read-only"]
        if self._collection is not None:
            command.append(f"--collection={self._collection}")
        for name, value in self._options.items():
            if value is True:
                command.append(f"--{name}")
            elif value is not False:
                command.append(f"--{name}={value}")
        return command

    def _await_ready(self, process: subprocess.Popen[bytes], reader: int, errors: Any) -> MountId:
        ready, _, _ = select.select([reader], [], [], _READY_S)
        line = b""
        if ready:
            while not line.endswith(b"\n") and (received := os.read(reader, 65536)):
                line += received
        if not line:
            process.terminate()
            process.wait(_GRACE_S)
            errors.seek(0)
            said = errors.read(_STDERR_BYTES).decode(errors="replace").strip().splitlines()
            raise ArvfuseError(said[-1].removeprefix("arvfuse: ") if said else "the mount was not ready in time")
        message = json.loads(line)
        if "error" in message:
            process.wait(_GRACE_S)
            raise decode_error(message["error"])
        return MountId(message["mount"])


def _opened_path(path: str | os.PathLike[str]) -> Path:
    """The real path of a directory, from the kernel: it need not read the table of all mounts. Asks nobody who mounts
    there. NoSuchEntry, NotADirectory."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoSuchEntry(str(path), "no such directory; make it with mkdir") from None
    except NotADirectoryError:
        raise NotADirectory(str(path), "not a directory; choose one to mount on") from None
    try:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)


def _python_path() -> str:
    """The directory of this package first, so that the same code is started."""
    here = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH", "")
    return f"{here}{os.pathsep}{given}" if given else here
