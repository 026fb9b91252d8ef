"""Kernel notices as messages of the FUSE protocol, written to the mount's device.

llfuse has a queue of its own for them: 1,000 long, blocking when full, and drained by a thread that stops when its main
loop ends, so that a sender could be left in it for ever. Written directly, a notice waits in the kernel only, and
returns when the connection ends.

Threading: one sender at a time (the notifier's). Failure: what the kernel does not know, or a connection that has
ended, is no failure.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Final

from arvfuse.drivers.kernel import wire

log = logging.getLogger(__name__)

DEVICE: Final = "/dev/fuse"
INVAL_INODE: Final = int(wire.Notify.INVAL_INODE)
INVAL_ENTRY: Final = int(wire.Notify.INVAL_ENTRY)
EXPIRE_ONLY: Final = wire.EXPIRE_ONLY
_HEADER: Final = wire.OUT_HEADER  # with a notice's code for an error, and unique 0: no request
_INODE: Final = wire.INVAL_INODE_OUT
_ENTRY: Final = wire.INVAL_ENTRY_OUT
_EXPECTED: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN, errno.ENOTDIR, errno.EBADF})


def encode_entry(parent: int, name: bytes) -> bytes:
    """The message that makes the kernel ask again for *name* in *parent*."""
    body = _ENTRY.pack(parent, len(name), EXPIRE_ONLY) + name + b"\0"
    return _HEADER.pack(_HEADER.size + len(body), INVAL_ENTRY, 0) + body


def encode_inode(node: int, *, attributes_only: bool) -> bytes:
    """The message that makes the kernel forget attributes, and pages unless *attributes_only*."""
    body = _INODE.pack(node, -1 if attributes_only else 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), INVAL_INODE, 0) + body


def open_devices() -> set[int]:
    """Descriptors of this process that are connections to a FUSE mount."""
    found: set[int] = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(entry) == DEVICE:
                found.add(int(entry.name))
        except OSError:
            continue  # the descriptor by which the directory was read
    return found


class DeviceNotices:
    """The KernelNotices port over a descriptor of the mount's device, which it duplicates, or with *share* only uses:
    then it is closed before the descriptor is."""

    def __init__(self, device: int, *, share: bool = False) -> None:
        self._device = device if share else os.dup(device)
        self._share: Final = share

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self._write(encode_entry(parent, name))

    def invalidate_inode(self, node: int, *, attributes_only: bool = False) -> None:
        self._write(encode_inode(node, attributes_only=attributes_only))

    def close(self) -> None:
        """Harmless when repeated. The sender has ended before."""
        device, self._device = self._device, -1
        if device >= 0 and not self._share:
            os.close(device)

    def _write(self, message: bytes) -> None:
        try:
            os.write(self._device, message)
        except OSError as failure:
            if failure.errno not in _EXPECTED:
                log.warning("the kernel refused a notice: %s", failure)
