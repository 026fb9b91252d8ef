"""The control socket of a mount, and how a command finds it.

``mounts/<id>/control`` is a unix socket (0600): one JSON request a line, one answer a line. A per-user directory of
symbolic links leads from a mount's id to its ``mounts/<id>``, whichever store that is in. Threading: plain functions
for the asking side; the serving side belongs to the supervisor. Failure: NoSuchEntry if no such mount lives, Busy at
a timeout.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from arvfuse.backend.mountdirs import CONTROL, is_alive
from arvfuse.errors import ArvfuseError, Busy, NoSuchEntry, NotPermitted
from arvfuse.model.collections import MountId

_SCHEMA: Final = 1
_MAX_LINE_BYTES: Final = 1 << 20


class Ended(NoSuchEntry):
    """Nobody answers for that mount: its supervisor ended, or was killed."""


def registry(environment: Mapping[str, str], *, create: bool = False) -> Path:
    """The user's directory of living mounts: ``$XDG_RUNTIME_DIR/arvfuse``, else ``/tmp/arvfuse-<uid>``.

    NotPermitted if somebody else owns it or may write in it."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    path = Path(runtime) / "arvfuse" if runtime.startswith("/") else Path(f"/tmp/arvfuse-{os.getuid()}")
    if create:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return path
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise NotPermitted(str(path), "not a directory of ours alone; remove it, or set XDG_RUNTIME_DIR")
    return path


def register(directory: Path, mount: MountId, environment: Mapping[str, str]) -> Path:
    """Let commands find *mount*, whose directory is *directory*; the link, to be removed at the end."""
    known = registry(environment, create=True)
    for old in known.iterdir():
        if old.is_symlink() and not old.exists():
            old.unlink(missing_ok=True)  # a mount that was killed, and recovered since
    link = known / mount
    link.unlink(missing_ok=True)
    link.symlink_to(directory)
    return link


def find(mount: MountId, environment: Mapping[str, str], store: Path | None = None) -> Path:
    """The directory of a living mount. NoSuchEntry."""
    link = registry(environment) / mount
    candidates = [link.parent / os.readlink(link)] if link.is_symlink() else []
    if store is not None:
        candidates.append(store / "mounts" / mount)
    for path in candidates:
        if (path / CONTROL).exists():
            return path
    raise NoSuchEntry(mount, "no process of that mount was found; was it mounted by another user?")


def find_dead(mount: MountId, environment: Mapping[str, str], store: Path | None = None) -> Path | None:
    """The directory of a mount of which no process lives any more, None if one does or it is not known where."""
    link = registry(environment) / mount
    candidates = [link.parent / os.readlink(link)] if link.is_symlink() else []
    if store is not None:
        candidates.append(store / "mounts" / mount)
    found = next((path for path in candidates if path.is_dir()), None)
    return None if found is None or is_alive(found) else found


def listen(directory: Path) -> socket.socket:
    """The listening socket of a mount, close-on-exec, not blocking."""
    path = directory / CONTROL
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A path of more than 107 bytes does not fit into an address: go by a descriptor of the directory.
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{parent}/{CONTROL}")
    finally:
        os.umask(old)
        os.close(parent)
    listener.listen(16)
    listener.setblocking(False)
    return listener


def ask(directory: Path, request: Mapping[str, Any], *, timeout_s: float | None) -> dict[str, Any]:
    """Ask the mount whose directory is *directory*. Busy at the timeout, ArvfuseError if it ends meanwhile; Ended."""
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(f"/proc/self/fd/{parent}/{CONTROL}")
            connection.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                received = connection.recv(65536)
                if not received:
                    raise ArvfuseError(f"{directory.name}: the mount ended without an answer; see its log")
                data += received
    except TimeoutError:
        raise Busy(f"{directory.name}: no answer within {timeout_s:g} s; it goes on, try again") from None
    except (ConnectionError, FileNotFoundError) as error:
        raise Ended(directory.name, "the mount has ended") from error
    finally:
        os.close(parent)
    answer = json.loads(data)
    if not isinstance(answer, dict):
        raise ArvfuseError(f"{directory.name}: an answer that is none; is it of another version?")
    return answer


class Connection:
    """One client of the supervisor: bytes in until a line is whole, one answer out."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket: Final = end
        self._input = b""

    def fileno(self) -> int:
        """The descriptor, for poll()."""
        return self._socket.fileno()

    def requests(self) -> list[dict[str, Any]] | None:
        """The requests that are whole; None when the client is gone or speaks nonsense."""
        try:
            received = self._socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received or len(self._input) > _MAX_LINE_BYTES:
            return None
        *lines, self._input = (self._input + received).split(b"\n")
        try:
            parsed = [json.loads(line) for line in lines if line.strip()]
        except ValueError:
            return None
        return parsed if all(isinstance(request, dict) for request in parsed) else None

    def answer(self, answer: Mapping[str, Any]) -> None:
        """Send one answer; a client that is gone or does not read is not waited for."""
        data = json.dumps({"schema": _SCHEMA, **answer}).encode() + b"\n"
        try:
            self._socket.settimeout(1.0)
            self._socket.sendall(data)
        except OSError:
            return
        finally:
            self._socket.setblocking(False)

    def close(self) -> None:
        """Harmless when repeated."""
        self._socket.close()
