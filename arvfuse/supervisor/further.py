"""Further mounts of a running engine, as the supervisor makes and ends them: read-only, a few milliseconds each.

A client asks for one; the engine finds out what is to be mounted; it is mounted here and the connection handed over;
the client is answered when requests are. One that ends by itself (umount(2)) is forgotten. Threading: the supervisor's
only thread. Failure: the client is told in one line; what was mounted and cannot be answered is detached.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from arvfuse.backend.messages import Message, encode_error
from arvfuse.errors import ArvfuseError, Busy, NoSuchEntry, UsageError
from arvfuse.supervisor.children import Helper
from arvfuse.supervisor.control import Connection

_CODE_BUSY: Final = 4
_DETACH_BATCH: Final = 500


class Mounter(Protocol):
    """What mounts and unmounts (``children.Processes``)."""

    def mount_further(self, mountpoint: Path, key: int) -> int: ...

    def unmount_further(self, mountpoint: Path, *, lazy: bool) -> None: ...

    def start_unmount(self, *mountpoints: Path, lazy: bool) -> Helper: ...


class _Further:
    def __init__(self, mountpoint: Path, client: Connection | None) -> None:
        self.mountpoint: Final = mountpoint
        self.client = client  # who waits for its beginning, then for its end
        self.made = False  # the system has it; the engine may be about to answer it
        self.mounted = False


class FurtherMounts:
    """By key, from 1 on. *tell*: a message to the engine, with a descriptor or none."""

    def __init__(self, mounter: Mounter, tell: Callable[..., None]) -> None:
        self._mounter: Final = mounter
        self._tell: Final = tell
        self._next = 1
        self._mounts: Final[dict[int, _Further]] = {}
        self._places: Final[dict[Path, int]] = {}
        self._helpers: list[tuple[Helper, int]] = []

    def __repr__(self) -> str:
        return f"<FurtherMounts {len(self._mounts)}>"

    def __len__(self) -> int:
        return len(self._mounts)

    def mount(self, client: Connection, request: dict[str, Any]) -> None:
        """``{"op": "mount", "mountpoint": PLACE, "collection": ID or null}``; PLACE is real, absolute and empty."""
        mountpoint = Path(str(request.get("mountpoint", "")))
        if not mountpoint.is_absolute():
            _refuse(client, UsageError(f"{mountpoint}: not an absolute path; give one"))
            return
        if mountpoint in self._places:
            _refuse(client, Busy(f"{mountpoint}: mounted there already; choose another directory"))
            return
        key, self._next = self._next, self._next + 1
        self._mounts[key] = _Further(mountpoint, client)
        self._places[mountpoint] = key
        self._tell({"do": "further", "key": key, "root": request.get("collection")})

    def unmount(self, client: Connection, request: dict[str, Any]) -> None:
        """``{"op": "unmount", "mountpoint": PLACE, "lazy": BOOL}``"""
        mountpoint = Path(str(request.get("mountpoint", "")))
        key = self._places.get(mountpoint)
        if key is None:
            _refuse(client, NoSuchEntry(str(mountpoint), "no further mount of this one; see `arvfuse status`"))
            return
        lazy = bool(request.get("lazy"))
        try:
            self._mounter.unmount_further(mountpoint, lazy=lazy)
        except PermissionError:
            self._helpers.append((self._mounter.start_unmount(mountpoint, lazy=lazy), key))
        except ArvfuseError as error:
            _refuse(client, error)
            return
        if lazy:
            client.answer({"code": 0})  # it ends with its last user
        else:
            self._mounts[key].client = client

    def hear(self, message: Message) -> None:
        """What the engine says of one."""
        key, told = message["key"], message["told"]
        further = self._mounts.get(key)
        if further is None:
            return
        if told == "resolved":
            self._make(key, further)
        elif told == "mounted":
            further.mounted = True
            _answer(further, {"code": 0, "mountpoint": str(further.mountpoint)})
        elif told == "failed":
            self._forget(key)
            if further.made:
                self._detach([further.mountpoint])
            _answer(further, {"code": 1, "error": message["error"]})
        elif told == "gone":
            self._forget(key)
            _answer(further, {"code": 0})

    def helpers_ended(self) -> None:
        """A helper may have ended; one that could not unmount says so to who asked."""
        ended = [each for each in self._helpers if each[0].poll() is not None]
        self._helpers = [each for each in self._helpers if each not in ended]
        for helper, key in ended:
            said = helper.communicate()[1].strip()
            further = self._mounts.get(key)
            if helper.returncode and further is not None:
                _answer(further, {"code": _CODE_BUSY, "error": encode_error(Busy(f"{further.mountpoint}: {said}"))})

    def detach_all(self) -> None:
        """The engine ends: nobody answers them any more."""
        self._detach(self._places)

    def close(self, timeout_s: float) -> None:
        """Wait for the helpers."""
        for helper, _ in self._helpers:
            helper.communicate(timeout=timeout_s)
        self._helpers = []

    def _detach(self, mounted: Iterable[Path]) -> None:
        places = []
        for place in mounted:
            try:
                self._mounter.unmount_further(place, lazy=True)
            except (PermissionError, ArvfuseError):
                places.append(place)
        for start in range(0, len(places), _DETACH_BATCH):
            helper = self._mounter.start_unmount(*places[start : start + _DETACH_BATCH], lazy=True)
            self._helpers.append((helper, 0))

    def _make(self, key: int, further: _Further) -> None:
        try:
            device = self._mounter.mount_further(further.mountpoint, key)
        except ArvfuseError as error:
            self._forget(key)
            self._tell({"do": "no_device", "key": key})
            _answer(further, {"code": 1, "error": encode_error(error)})
            return
        further.made = True
        self._tell({"do": "device", "key": key}, device)
        os.close(device)

    def _forget(self, key: int) -> None:
        further = self._mounts.pop(key)
        self._places.pop(further.mountpoint, None)


def _answer(further: _Further, answer: Message) -> None:
    client, further.client = further.client, None
    if client is not None:
        client.answer(answer)


def _refuse(client: Connection, error: ArvfuseError) -> None:
    client.answer({"code": 1, "error": encode_error(error)})
