"""Layouts and numbers of the protocol against the C header of the machine, which a small program prints.

A header may be older than what is known here. What it does not have is not compared; that much was compared is
asserted, and what every header from Linux 5.4 on has must be among it.
"""

from __future__ import annotations

import re
import struct
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest

from arvfuse.drivers import notices
from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.wire import Fattr, Fopen, Init, Notify, Op

HEADER = "linux/fuse.h"
# struct -> (layout, its fields in order). Fields whose names changed between headers stand with their oldest name.
STRUCTS: dict[str, tuple[list[struct.Struct], str]] = {
    "fuse_in_header": ([wire.IN_HEADER], "len opcode unique nodeid uid gid pid"),
    "fuse_init_in": ([wire.INIT_IN], "major minor max_readahead flags"),
    "fuse_forget_in": ([wire.FORGET_IN], "nlookup"),
    "fuse_batch_forget_in": ([wire.BATCH_FORGET_IN], "count dummy"),
    "fuse_forget_one": ([wire.FORGET_ONE], "nodeid nlookup"),
    "fuse_setattr_in": (
        [wire.SETATTR_IN],
        "valid padding fh size lock_owner atime mtime ctime atimensec mtimensec ctimensec mode unused4 uid gid unused5",
    ),
    "fuse_mknod_in": ([wire.MKNOD_IN], "mode rdev umask padding"),
    "fuse_mkdir_in": ([wire.MKDIR_IN], "mode umask"),
    "fuse_rename_in": ([wire.RENAME_IN], "newdir"),
    "fuse_rename2_in": ([wire.RENAME2_IN], "newdir flags padding"),
    "fuse_open_in": ([wire.OPEN_IN], "flags"),
    "fuse_create_in": ([wire.CREATE_IN], "flags mode umask"),
    "fuse_read_in": ([wire.READ_IN], "fh offset size read_flags lock_owner flags padding"),
    "fuse_write_in": ([wire.WRITE_IN], "fh offset size write_flags lock_owner flags padding"),
    "fuse_release_in": ([wire.RELEASE_IN], "fh flags release_flags lock_owner"),
    "fuse_flush_in": ([wire.FLUSH_IN], "fh unused padding lock_owner"),
    "fuse_fsync_in": ([wire.FSYNC_IN], "fh fsync_flags padding"),
    "fuse_access_in": ([wire.ACCESS_IN], "mask padding"),
    "fuse_interrupt_in": ([wire.INTERRUPT_IN], "unique"),
    "fuse_fallocate_in": ([wire.FALLOCATE_IN], "fh offset length mode padding"),
    "fuse_lseek_in": ([wire.LSEEK_IN], "fh offset whence padding"),
    "fuse_copy_file_range_in": ([wire.COPY_FILE_RANGE_IN], "fh_in off_in nodeid_out fh_out off_out len flags"),
    "fuse_out_header": ([wire.OUT_HEADER], "len error unique"),
    "fuse_init_out": (
        [wire.INIT_OUT],
        "major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages",
    ),
    "fuse_attr": (
        [wire.ATTR],
        "ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev blksize",
    ),
    "fuse_entry_out": (
        [wire.ENTRY_HEAD, wire.ATTR],
        "nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec attr",
    ),
    "fuse_attr_out": ([wire.ATTR_OUT], "attr_valid attr_valid_nsec dummy attr"),
    "fuse_open_out": ([wire.OPEN_OUT], "fh open_flags"),
    "fuse_write_out": ([wire.WRITE_OUT], "size padding"),
    "fuse_kstatfs": ([wire.STATFS_OUT], "blocks bfree bavail files ffree bsize namelen frsize padding"),
    "fuse_lseek_out": ([wire.LSEEK_OUT], "offset"),
    "fuse_dirent": ([wire.DIRENT], "ino off namelen type"),
    "fuse_direntplus": ([wire.ENTRY_HEAD, wire.ATTR, wire.DIRENT], "entry_out dirent"),
    "fuse_notify_inval_inode_out": ([wire.INVAL_INODE_OUT], "ino off len"),
    "fuse_notify_inval_entry_out": ([wire.INVAL_ENTRY_OUT], "parent namelen"),
}
GROW_LATER = {"fuse_init_in"}  # the second half, with flags2, came with minor 36
ENUMS: dict[str, type[IntEnum | IntFlag]] = {
    "FUSE_": Op, "FUSE_NOTIFY_": Notify, "FOPEN_": Fopen, "FATTR_": Fattr
}  # fmt: skip
NAMED = {
    "FUSE_WRITE_CACHE": wire.WRITE_CACHE,
    "FUSE_WRITE_KILL_SUIDGID": wire.WRITE_KILL_SUIDGID,
    "FUSE_OPEN_KILL_SUIDGID": wire.OPEN_KILL_SUIDGID,
    "FUSE_FSYNC_FDATASYNC": wire.FSYNC_FDATASYNC,
    "FUSE_EXPIRE_ONLY": wire.EXPIRE_ONLY,
    "FUSE_KERNEL_VERSION": wire.MAJOR,
    "FUSE_ROOT_ID": wire.ROOT,
}


def notify_name(member: IntEnum) -> list[str]:
    """FUSE_POLL is both an operation and a notice, which says CODE."""
    return [f"FUSE_NOTIFY_{member.name}"]


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes, offsets and values by name: ``struct``, ``struct.field``, ``NAME``."""
    text = subprocess.run(
        ["cc", "-E", "-dD", "-x", "c", "-"], input=f"#include <{HEADER}>\n", capture_output=True, text=True, check=True,
        timeout=60,
    ).stdout  # fmt: skip
    names = set(re.findall(r"^#define (F[A-Z]+_\w+) [^\n]", text, re.MULTILINE))
    names |= set(re.findall(r"^\s*((?:FUSE|CUSE)_\w+)\s*=", text, re.MULTILINE))
    names -= {name for name in names if name.startswith("FUSE_REC_ALIGN") or "DIRENT" in name or "COMPAT" in name}
    names.discard("FUSE_MAX_MAX_PAGES")
    lines = [f"#include <{name}>" for name in ("stddef.h", "stdio.h", "sys/ioctl.h", HEADER)]
    lines += ["#define PAGE_SIZE 4096", "int main(void) {"]
    for name, (_, fields) in STRUCTS.items():
        if not re.search(rf"struct {name} {{", text):
            continue
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        lines += [f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));' for field in fields.split()]
    lines += [f'printf("{name} %llu\\n", (unsigned long long)({name}));' for name in sorted(names)]
    place = tmp_path_factory.mktemp("header")
    (place / "print.c").write_text("\n".join([*lines, "return 0; }"]))
    command = ["cc", "-o", place / "print", place / "print.c"]
    subprocess.run(command, check=True, timeout=60)
    printed = subprocess.run([place / "print"], capture_output=True, text=True, check=True, timeout=60).stdout
    return {name: int(value) for name, value in (line.split() for line in printed.splitlines())}


def offsets(layouts: list[struct.Struct]) -> list[int]:
    """Where each field begins; of several layouts, where each layout begins but for the first one's fields."""
    found, at = [], 0
    for number, layout in enumerate(layouts):
        codes = re.findall(r"(\d*)([a-zA-Z])", layout.format)
        for count, code in codes:
            for _ in range(1 if code == "x" else int(count or 1)):
                if code != "x" and (number == 0 or not found or at != found[-1]):
                    found.append(at)
                at += struct.calcsize(f"={code}") * (int(count or 1) if code == "x" else 1)
    return found


@pytest.mark.parametrize("name", STRUCTS)
def test_every_layout_is_the_headers(header: dict[str, int], name: str) -> None:
    assert name in header, f"not in {HEADER}: every one from Linux 5.4 on has it"
    layouts, fields = STRUCTS[name]
    size = sum(layout.size for layout in layouts)
    if name in GROW_LATER and header["FUSE_KERNEL_MINOR_VERSION"] >= 36:
        assert header[name] == size + wire.INIT_IN_FLAGS2.size
    elif name == "fuse_direntplus":
        assert header[name] == size
    else:
        assert header[name] == size
    ours = offsets(layouts)
    theirs = [header[f"{name}.{field}"] for field in fields.split()]
    if name == "fuse_direntplus":
        assert theirs == [0, wire.ENTRY_OUT.size]
    else:
        assert theirs == ours[: len(theirs)]


def members() -> list[tuple[str, IntEnum | IntFlag]]:
    found: list[tuple[str, IntEnum | IntFlag]] = []
    for prefix, kind in ENUMS.items():
        found += [(f"{prefix}{member.name}", member) for member in kind]
    return found


def test_every_number_that_the_header_has_is_the_same(header: dict[str, int]) -> None:
    compared = 0
    for name, member in members():
        if name in header and not (isinstance(member, Notify) and name == "FUSE_NOTIFY_REPLY"):
            assert header[name] == member.value, name
            compared += 1
    for name, value in NAMED.items():
        if name in header:
            assert header[name] == value, name
            compared += 1
    assert compared >= 60
    core = [f"FUSE_{op.name}" for op in Op if op <= Op.LSEEK]
    assert [name for name in core if name not in header] == []


def test_every_feature_that_the_header_has_is_the_same(header: dict[str, int]) -> None:
    compared = {f"FUSE_{flag.name}": flag.value for flag in Init if f"FUSE_{flag.name}" in header}
    assert {name: header[name] for name in compared} == compared
    oldest = {Init.MAX_PAGES, Init.WRITEBACK_CACHE, Init.PARALLEL_DIROPS, Init.NO_OPENDIR_SUPPORT}  # of Linux 5.4
    assert {f"FUSE_{flag.name}" for flag in oldest} <= set(compared)


def test_nothing_of_the_header_is_missing_here(header: dict[str, int]) -> None:
    """An operation, a flag of OPEN or a notice that is new in the header has to be looked at."""
    known = {name for name, _ in members()}
    other = re.compile(
        r"FUSE_(INIT_|SETUPMAPPING_|REMOVEMAPPING_|MAX_NR_|KERNEL|ROOT|GETATTR|LK|WRITE|READ|RELEASE|FSYNC|IOCTL|POLL_|ATTR|OPEN_|SETXATTR_ACL)"
    )
    flags = {f"FUSE_{flag.name}" for flag in Init} | set(NAMED)
    new = {name for name in header if "." not in name and name[0] == "F"} - known - flags
    unknown = {name for name in new if not other.match(name)}
    assert unknown <= {"FUSE_MIN_READ_BUFFER", "FUSE_DEV_IOC_CLONE", "FUSE_DEV_IOC_MAGIC", "FUSE_NAME_OFFSET",
                       "FUSE_EXPORT_SUPPORT", "FUSE_UNIQUE_RESEND", "FUSE_NOTIFY_CODE_MAX"}  # fmt: skip


def test_notices(header: dict[str, int]) -> None:
    assert (notices.INVAL_INODE, notices.INVAL_ENTRY) == (Notify.INVAL_INODE, Notify.INVAL_ENTRY)
    assert header["FUSE_NOTIFY_INVAL_ENTRY"] == notices.INVAL_ENTRY
    assert Path("/usr/include").exists()
