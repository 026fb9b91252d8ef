"""Messages of the kernel's FUSE protocol as bytes: numbers, flags and layouts of version 7.

Source of the format: ``linux/fuse.h`` (uapi), up to minor 45. Operations, flags and notices are all here, so that a
test finds what is new in a header; layouts are those that are used, each compared with the header by a test.

Integers are in the machine's byte order, all fields aligned by the header itself, so "=" layouts are exact. Names are
bytes that end with a NUL. Pure: no I/O, no state; any thread. Failure: struct.error for a message that is too short,
Malformed for one that says what cannot be; whoever reads it answers as a malformed request.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final

MAJOR: Final = 7
MINOR: Final = 45
"""The newest minor whose meaning is known here; the older one of ours and the kernel's is spoken."""
OLDEST_MINOR: Final = 31
"""That of Linux 5.4."""
ROOT: Final = 1

MAX_WRITE_BYTES: Final = 1 << 20
PAGE_BYTES: Final = 4096
MAX_PAGES: Final = MAX_WRITE_BYTES // PAGE_BYTES
MAX_BACKGROUND: Final = 256
CONGESTION_THRESHOLD: Final = 192
READ_AHEAD_BYTES: Final = 2 * MAX_WRITE_BYTES
"""One request is read while the one before is answered."""
BUFFER_BYTES: Final = MAX_WRITE_BYTES + PAGE_BYTES
"""The largest request: a write of that size with its headers, which take less than a page."""


class Malformed(Exception):
    """A message of the kernel that says what cannot be."""


class Op(IntEnum):
    """What is asked for."""

    LOOKUP = 1
    FORGET = 2  # no reply
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42  # no reply
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


UNANSWERED: Final = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT, Op.NOTIFY_REPLY})
"""What has no reply, also when it is refused. (INTERRUPT's would be read as one about interrupts as such.)"""


def op_name(opcode: int) -> str:
    """For a message."""
    return Op(opcode).name.lower() if opcode in Op.__members__.values() else str(opcode)


class Init(IntFlag):
    """What either side of INIT can do; bits from 32 on travel in ``flags2``."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41
    REQUEST_TIMEOUT = 1 << 42


class Fopen(IntFlag):
    """``open_flags`` of an answer to OPEN, CREATE and OPENDIR."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6
    PASSTHROUGH = 1 << 7


class Fattr(IntFlag):
    """``valid`` of SETATTR: which fields are to be set."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


class Notify(IntEnum):
    """Messages to the kernel that nobody asked for: ``error`` of their header."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4
    RETRIEVE = 5
    DELETE = 6
    RESEND = 7
    INC_EPOCH = 8


WRITE_CACHE: Final = 1 << 0
"""``write_flags``: the pages of a write-back cache; handle, pid and uid of the request say nothing then."""
WRITE_KILL_SUIDGID: Final = 1 << 2
OPEN_KILL_SUIDGID: Final = 1 << 0
FSYNC_FDATASYNC: Final = 1 << 0
EXPIRE_ONLY: Final = 1 << 0
"""``flags`` of INVAL_ENTRY: what is mounted below the name stays. Before minor 38 padding that nobody read."""

# requests

IN_HEADER: Final = struct.Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
INIT_IN: Final = struct.Struct("=IIII")  # major, minor, max_readahead, flags; what every kernel sends
INIT_IN_FLAGS2: Final = struct.Struct("=I44x")  # flags2, unused; behind it since minor 36
FORGET_IN: Final = struct.Struct("=Q")  # nlookup
BATCH_FORGET_IN: Final = struct.Struct("=II")  # count, dummy
FORGET_ONE: Final = struct.Struct("=QQ")  # nodeid, nlookup
SETATTR_IN: Final = struct.Struct("=II3Q3q8I")
"""valid, padding, fh, size, lock_owner, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, unused4, uid, gid,
unused5. Times before 1970 are negative, whatever the header calls their type."""
MKNOD_IN: Final = struct.Struct("=IIII")  # mode, rdev, umask, padding; name
MKDIR_IN: Final = struct.Struct("=II")  # mode, umask; name
RENAME_IN: Final = struct.Struct("=Q")  # newdir; old name, new name
RENAME2_IN: Final = struct.Struct("=QII")  # newdir, flags, padding; old name, new name
OPEN_IN: Final = struct.Struct("=II")  # flags, open_flags
CREATE_IN: Final = struct.Struct("=IIII")  # flags, mode, umask, open_flags; name
READ_IN: Final = struct.Struct("=QQIIQII")  # fh, offset, size, read_flags, lock_owner, flags, padding
WRITE_IN: Final = struct.Struct("=QQIIQII")  # fh, offset, size, write_flags, lock_owner, flags, padding; data
RELEASE_IN: Final = struct.Struct("=QIIQ")  # fh, flags, release_flags, lock_owner
FLUSH_IN: Final = struct.Struct("=QIIQ")  # fh, unused, padding, lock_owner
FSYNC_IN: Final = struct.Struct("=QII")  # fh, fsync_flags, padding
ACCESS_IN: Final = struct.Struct("=II")  # mask, padding
INTERRUPT_IN: Final = struct.Struct("=Q")  # unique
FALLOCATE_IN: Final = struct.Struct("=QQQII")  # fh, offset, length, mode, padding
LSEEK_IN: Final = struct.Struct("=QQII")  # fh, offset, whence, padding
COPY_FILE_RANGE_IN: Final = struct.Struct("=7Q")  # fh_in, off_in, nodeid_out, fh_out, off_out, len, flags

# replies

OUT_HEADER: Final = struct.Struct("=IiQ")  # len, error (an errno, negative; or a Notify), unique
INIT_OUT: Final = struct.Struct("=IIIIHHIIHHI28x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
map_alignment, flags2, unused"""
ATTR: Final = struct.Struct("=3Q3q10I")
"""ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize,
flags"""
ENTRY_HEAD: Final = struct.Struct("=QQQQII")
"""nodeid (0: no such name, to be remembered), generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec;
an ATTR follows"""
ENTRY_OUT: Final = struct.Struct("=QQQQII3Q3q10I")
ATTR_OUT: Final = struct.Struct("=QII3Q3q10I")  # attr_valid, attr_valid_nsec, dummy, and an ATTR
OPEN_OUT: Final = struct.Struct("=QII")  # fh, open_flags, padding (from minor 40: backing_id)
WRITE_OUT: Final = struct.Struct("=II")  # size, padding
STATFS_OUT: Final = struct.Struct("=5Q4I24x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding
LSEEK_OUT: Final = struct.Struct("=Q")  # offset
DIRENT: Final = struct.Struct("=QQII")  # ino, off, namelen, type; name, padded to 8 bytes

# notices

INVAL_INODE_OUT: Final = struct.Struct("=Qqq")  # ino, off, len
INVAL_ENTRY_OUT: Final = struct.Struct("=QII")  # parent, namelen, flags; name

EMPTY_ENTRY: Final = bytes(ENTRY_OUT.size)
"""Node 0: what READDIRPLUS says of a name that is not to be looked up by it."""
_PADDING: Final = tuple(bytes(n) for n in (0, 7, 6, 5, 4, 3, 2, 1))


def dirent(number: int, cookie: int, name: bytes, is_dir: bool) -> bytes:
    """One name of a READDIR answer; *cookie* is the offset of the next."""
    return b"".join((DIRENT.pack(number, cookie, len(name), 4 if is_dir else 8), name, _PADDING[len(name) % 8]))


def split_name(body: memoryview | bytes, start: int) -> bytes:
    """The name from *start* to the NUL that ends the message. Malformed if it is no name."""
    name = bytes(body[start:-1])
    if not name or b"\0" in name or body[-1] != 0:
        raise Malformed("a name that does not end with the message")
    return name


def split_two_names(body: memoryview | bytes, start: int) -> tuple[bytes, bytes]:
    """Two names, each with its NUL. Malformed if there are not two."""
    names = bytes(body[start:]).split(b"\0")
    if len(names) != 3 or not names[0] or not names[1] or names[2]:
        raise Malformed("not two names")
    return names[0], names[1]


def message(unique: int, body: bytes) -> bytes:
    """A whole reply that says yes."""
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique) + body


def refusal(unique: int, code: int) -> bytes:
    """A whole reply that says no. *code*: an errno."""
    return OUT_HEADER.pack(OUT_HEADER.size, -code, unique)
