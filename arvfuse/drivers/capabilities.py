"""Where the two drivers may differ. Whatever is not in this table is the same with both, and the same tests prove it.

Pure data; printed in doc/drivers.md.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Capability(NamedTuple):
    """Something that the kernel driver does. *without*: what a program sees with llfuse instead."""

    what: str
    llfuse: bool
    without: str


CAPABILITIES: Final = (
    Capability("write-back cache (--no-writeback turns it off)", False, "each write(2) is a request"),
    Capability("requests of 1 MiB", False, "128 KiB"),
    Capability("names that are missing are remembered", False, "each look-up of one is a request"),
    Capability("attributes come with listings (READDIRPLUS)", False, "a look-up for each name"),
    Capability("look-ups in one directory side by side", False, "one after the other"),
    Capability("read-only mounts without OPEN, FLUSH and OPENDIR", False, "a request each"),
    Capability("fallocate(2)", False, "EOPNOTSUPP; posix_fallocate(3) writes zeros instead"),
    Capability("lseek(2) for data and holes of a file that nobody writes", False, "all of a file counts as data"),
    Capability("copy_file_range(2) within a mount shares what is stored", False, "bytes are copied"),
    Capability("renameat2(2) with RENAME_NOREPLACE", False, "EINVAL"),
    Capability("a request that waits can be interrupted", False, "it waits for its answer"),
    Capability("a mount needs no C library and no compiler", False, "libfuse 2 and llfuse are installed"),
)
