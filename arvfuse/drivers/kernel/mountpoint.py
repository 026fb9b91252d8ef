"""Mounting: a descriptor of /dev/fuse that is the connection to a new mount.

Who may call mount(2) (root, and root of a user namespace) does; everybody else is helped by the setuid program
fusermount3, which mounts and passes the descriptor through a socket. Neither waits for the file system to answer, so
whoever will answer need not run yet. Threading: any thread of a process that does not answer the mount. Failure:
NotPermitted, NotSupported or UsageError with one line; nothing stays mounted.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Final, NamedTuple

from arvfuse.drivers.kernel import wire
from arvfuse.errors import ArvfuseError, Busy, NotPermitted, NotSupported, UsageError

DEVICE: Final = "/dev/fuse"
DIRTY_BYTES: Final = wire.MAX_BACKGROUND // 4 * wire.MAX_WRITE_BYTES
"""Pages of a mount that wait to be written: a quarter of the requests in flight, so that reads find room."""

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MNT_DETACH: Final = 2
_HELPER: Final = "fusermount3"
_HELPER_S: Final = 30.0
_BDI: Final = Path("/sys/class/bdi")
_DESCRIPTORS_BYTES: Final = array.array("i").itemsize


class MountOptions(NamedTuple):
    """How a mount is made. *source*: what the mount table shows as the device; *subtype*: its type behind ``fuse.``"""

    source: str
    subtype: str = "arvfuse"
    read_only: bool = True
    allow_other: bool = False


def mount(mountpoint: Path, options: MountOptions) -> int:
    """Mount at *mountpoint* (absolute, not below a dead mount); the descriptor, close-on-exec and not blocking."""
    try:
        device = _mount_directly(mountpoint, options)
    except PermissionError:
        device = mount_by_helper(mountpoint, options)
    os.set_blocking(device, False)
    return device


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """umount2(2) of a read-only mount, which asks nothing of whoever answers it. Busy; PermissionError where that is
    not for us; one that is gone is no failure."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH if lazy else 0) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EBUSY:
        raise Busy(f"{mountpoint}: in use; end that, or detach it lazily")
    if code in (errno.EPERM, errno.EACCES):
        raise PermissionError(code, os.strerror(code))
    if code not in (errno.EINVAL, errno.ENOENT):
        raise ArvfuseError(f"{mountpoint}: cannot be unmounted: {os.strerror(code)}; try umount")


def tune(device: int) -> None:
    """Let the kernel read ahead and keep dirty pages as suits us, where we may say so. *device*: the connection."""
    number = _connection(device)
    if number is None:
        return
    knobs = (
        ("read_ahead_kb", wire.READ_AHEAD_BYTES >> 10),
        ("max_bytes", DIRTY_BYTES),  # since Linux 6.2
    )
    for name, value in knobs:
        with contextlib.suppress(OSError):  # not root, or an older kernel: slower, not wrong
            (_BDI / f"0:{number}" / name).write_text(f"{value}\n")


def _connection(device: int) -> int | None:
    """The connection's number, which is the minor of the mount's st_dev; not told by kernels before 5.7.

    Asked of the descriptor: a table of ten thousand mounts takes longer to read than a mount takes to make."""
    try:
        text = Path(f"/proc/self/fdinfo/{device}").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "fuse_connection":
            return int(value)
    return None


def _mount_directly(mountpoint: Path, options: MountOptions) -> int:
    """mount(2). PermissionError where that is not for us."""
    import ctypes  # not needed by any other command

    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotSupported(DEVICE, "missing; load the kernel's fuse module (modprobe fuse)") from None
    said = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},max_read={wire.MAX_WRITE_BYTES}"
    if options.allow_other:
        said += ",allow_other"
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if options.read_only else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    kind = f"fuse.{options.subtype}" if options.subtype else "fuse"
    done = libc.mount(
        os.fsencode(options.source), os.fsencode(mountpoint), kind.encode(), ctypes.c_ulong(flags), said.encode()
    )
    if done == 0:
        return device
    code = ctypes.get_errno()
    os.close(device)
    if code in (errno.EPERM, errno.EACCES):
        raise PermissionError(code, os.strerror(code))
    raise UsageError(f"{mountpoint}: cannot be mounted: {os.strerror(code)}; choose another place")


def mount_by_helper(mountpoint: Path, options: MountOptions) -> int:
    """As mount(), by fusermount3, which is asked through a socket whose number is in its environment."""
    import shutil  # who may mount needs neither
    import subprocess

    helper = shutil.which(_HELPER)
    if helper is None:
        raise NotSupported(_HELPER, "not installed; install the package fuse3")
    said = ["nosuid", "nodev", "ro" if options.read_only else "rw"]
    said += [f"fsname={_escaped(options.source)}", f"max_read={wire.MAX_WRITE_BYTES}"]
    if options.subtype:
        said.append(f"subtype={options.subtype}")
    if options.allow_other:
        said.append("allow_other")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            done = subprocess.run(
                [helper, "-o", ",".join(said), "--", str(mountpoint)],
                cwd="/", env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=(theirs.fileno(),),
                timeout=_HELPER_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ArvfuseError(f"{mountpoint}: {_HELPER} did not mount within {_HELPER_S:g} s; try again") from None
        if done.returncode != 0:
            why = done.stderr.strip().splitlines()
            raise NotPermitted(str(mountpoint), f"{why[-1] if why else 'refused'}; ask for access to {DEVICE}")
        theirs.close()
        return _receive(ours, mountpoint)


def _receive(connection: socket.socket, mountpoint: Path) -> int:
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(_DESCRIPTORS_BYTES), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(data[:_DESCRIPTORS_BYTES])
            return received[0]
    raise ArvfuseError(f"{mountpoint}: {_HELPER} gave no descriptor; see its version")


def _escaped(text: str) -> str:
    """Commas separate the helper's options."""
    return text.replace("\\", "\\\\").replace(",", "\\,")
