"""Requests become calls of Operations and answers become replies: over real trees, without a mount."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.dispatch import LARGE_READ_BYTES, Refused, Session
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.wire import Fattr, Fopen, Init, Op
from arvfuse.errors import Damaged, InvalidManifest
from arvfuse.model.manifests import Manifest
from tests.support.engines import Mounted
from tests.support.fakekernel import EVERYTHING, FakeKernel, request

SETATTR = (
    "valid padding fh size lock_owner atime mtime ctime atimensec mtimensec ctimensec mode unused4 uid gid unused5"
)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, root=lambda engine: engine.workspace.open_tree(None, Manifest(b"")))
    made.write_file(1, b"f", b"hello")
    yield made
    made.close()


@pytest.fixture
def kernel(mounted: Mounted) -> Iterator[FakeKernel]:
    made = FakeKernel(mounted.ops)
    yield made
    made.close()


def setattr_body(**fields: int) -> bytes:
    return wire.SETATTR_IN.pack(*(fields.get(name, 0) for name in SETATTR.split()))


def read_body(handle: int, offset: int = 0, size: int = 4096) -> bytes:
    return wire.READ_IN.pack(handle, offset, size, 0, 0, 0, 0)


def write_body(handle: int, offset: int, data: bytes, *, flags: int = 0) -> bytes:
    return wire.WRITE_IN.pack(handle, offset, len(data), flags, 0, 0, 0) + data


def number_of(kernel: FakeKernel, name: bytes, parent: int = 1) -> int:
    number: int = wire.ENTRY_HEAD.unpack_from(kernel.ask(Op.LOOKUP, parent, name + b"\0").body)[0]
    return number


def opened(kernel: FakeKernel, node: int, flags: int = os.O_RDWR, *, kill: int = 0) -> int:
    handle: int = wire.OPEN_OUT.unpack(kernel.ask(Op.OPEN, node, wire.OPEN_IN.pack(flags, kill)).body)[0]
    return handle


def mode_of(kernel: FakeKernel, node: int) -> int:
    mode: int = wire.ATTR_OUT.unpack(kernel.ask(Op.GETATTR, node, bytes(16)).body)[3 + 9]
    return mode


def test_a_file_is_made_written_read_and_closed(kernel: FakeKernel, mounted: Mounted) -> None:
    created = kernel.ask(Op.CREATE, 1, wire.CREATE_IN.pack(os.O_RDWR, stat.S_IFREG | 0o640, 0, 0) + b"new\0").body
    node = wire.ENTRY_HEAD.unpack_from(created)[0]
    handle, flags, _ = wire.OPEN_OUT.unpack_from(created, wire.ENTRY_OUT.size)
    assert (len(created), flags) == (wire.ENTRY_OUT.size + wire.OPEN_OUT.size, Fopen.KEEP_CACHE)
    assert stat.S_IMODE(mode_of(kernel, node)) == 0o640
    answer = kernel.ask(Op.WRITE, node, write_body(handle, 2, b"data"))
    assert wire.WRITE_OUT.unpack(answer.body) == (4, 0)
    assert kernel.ask(Op.READ, node, read_body(handle)).body == b"\0\0data"
    assert kernel.ask(Op.FLUSH, node, wire.FLUSH_IN.pack(handle, 0, 0, 0)).error == 0
    assert kernel.ask(Op.FSYNC, node, wire.FSYNC_IN.pack(handle, wire.FSYNC_FDATASYNC, 0)).error == 0
    assert kernel.ask(Op.RELEASE, node, wire.RELEASE_IN.pack(handle, 0, 0, 0)).error == 0
    assert kernel.ask(Op.READ, node, read_body(handle)).error == errno.ESTALE
    assert mounted.read_file(node) == b"\0\0data"
    assert repr(kernel.session).startswith("<Session serving requests=9 <Connection open parked=0>>")


def test_names_are_made_moved_listed_and_removed(kernel: FakeKernel) -> None:
    assert kernel.ask(Op.MKDIR, 1, wire.MKDIR_IN.pack(0o755, 0) + b"d\0").error == 0
    directory = number_of(kernel, b"d")
    assert kernel.ask(Op.MKNOD, directory, wire.MKNOD_IN.pack(stat.S_IFREG | 0o600, 0, 0, 0) + b"node\0").error == 0
    assert kernel.ask(Op.RENAME, 1, wire.RENAME_IN.pack(directory) + b"f\0g\0").error == 0
    noreplace = wire.RENAME2_IN.pack(directory, 1, 0)
    assert kernel.ask(Op.RENAME2, directory, noreplace + b"g\0node\0").error == errno.EEXIST
    assert kernel.ask(Op.RENAME2, directory, wire.RENAME2_IN.pack(1, 2, 0) + b"g\0node\0").error == errno.EINVAL
    handle = wire.OPEN_OUT.unpack(kernel.ask(Op.OPENDIR, directory, wire.OPEN_IN.pack(0, 0)).body)[0]
    listing = kernel.ask(Op.READDIR, directory, read_body(handle)).body
    assert [name in listing for name in (b"g", b"node", b"f\0")] == [True, True, False]
    plus = kernel.ask(Op.READDIRPLUS, directory, read_body(handle)).body
    assert len(plus) == len(listing) + 4 * wire.ENTRY_OUT.size
    assert kernel.ask(Op.FSYNCDIR, directory, wire.FSYNC_IN.pack(handle, 0, 0)).error == 0
    assert kernel.ask(Op.RELEASEDIR, directory, wire.RELEASE_IN.pack(handle, 0, 0, 0)).error == 0
    assert kernel.ask(Op.RMDIR, 1, b"d\0").error == errno.ENOTEMPTY
    assert kernel.ask(Op.UNLINK, directory, b"g\0").error == 0
    assert kernel.ask(Op.UNLINK, directory, b"node\0").error == 0
    assert kernel.ask(Op.RMDIR, 1, b"d\0").error == 0


def test_a_missing_name_is_to_be_remembered_where_all_changes_are_told(kernel: FakeKernel) -> None:
    answer = kernel.ask(Op.LOOKUP, 1, b"none\0")
    assert answer.error == 0
    assert wire.ENTRY_HEAD.unpack_from(answer.body)[:3] == (0, 0, 60)
    assert kernel.ask(Op.LOOKUP, 1, b"n" * 256 + b"\0").error == errno.ENAMETOOLONG


def test_attributes_are_set_as_far_as_they_are_named(kernel: FakeKernel) -> None:
    node = number_of(kernel, b"f")
    valid = Fattr.MTIME | Fattr.ATIME | Fattr.MODE
    body = setattr_body(valid=valid, mtime=-2, mtimensec=500, atime=7, atimensec=1, mode=stat.S_IFREG | 0o4755, size=1)
    answer = kernel.ask(Op.SETATTR, node, body)
    fields = wire.ATTR_OUT.unpack(answer.body)[3:]
    assert (fields[1], fields[3], fields[4], fields[6], fields[7]) == (5, 7, -2, 1, 500)
    assert stat.S_IMODE(fields[9]) == 0o4755
    handle = opened(kernel, node)
    cut = setattr_body(valid=Fattr.SIZE | Fattr.FH | Fattr.KILL_SUIDGID, fh=handle, size=2)
    fields = wire.ATTR_OUT.unpack(kernel.ask(Op.SETATTR, node, cut).body)[3:]
    assert (fields[1], stat.S_IMODE(fields[9])) == (2, 0o755)
    now = setattr_body(valid=Fattr.MTIME | Fattr.MTIME_NOW | Fattr.ATIME | Fattr.ATIME_NOW, mtime=1)
    assert wire.ATTR_OUT.unpack(kernel.ask(Op.SETATTR, node, now).body)[3 + 4] > 1_700_000_000


@pytest.mark.parametrize("way", ["write", "open", "create", "chown"])
def test_set_user_id_goes_when_the_kernel_says_so(kernel: FakeKernel, way: str) -> None:
    node = number_of(kernel, b"f")
    kernel.ask(Op.SETATTR, node, setattr_body(valid=Fattr.MODE, mode=0o6755))
    if way == "write":
        kernel.ask(Op.WRITE, node, write_body(opened(kernel, node), 0, b"x"))
        assert stat.S_IMODE(mode_of(kernel, node)) == 0o6755
        kernel.ask(Op.WRITE, node, write_body(opened(kernel, node), 0, b"x", flags=wire.WRITE_KILL_SUIDGID))
    elif way == "open":
        opened(kernel, node, os.O_WRONLY | os.O_TRUNC, kill=wire.OPEN_KILL_SUIDGID)
    elif way == "create":  # over a file that the kernel did not know
        body = wire.CREATE_IN.pack(os.O_WRONLY | os.O_TRUNC, 0o644, 0, wire.OPEN_KILL_SUIDGID)
        kernel.ask(Op.CREATE, 1, body + b"f\0")
    else:
        kernel.ask(Op.SETATTR, node, setattr_body(valid=Fattr.UID, uid=7))
    assert stat.S_IMODE(mode_of(kernel, node)) == 0o755


@pytest.mark.parametrize(
    ("op", "body", "code"),
    [
        (Op.SYMLINK, b"name\0target\0", errno.EPERM),
        (Op.LINK, bytes(8) + b"name\0", errno.EPERM),
        (Op.READLINK, b"", errno.EINVAL),
        (Op.MKNOD, wire.MKNOD_IN.pack(stat.S_IFIFO, 0, 0, 0) + b"p\0", errno.ENOTSUP),
        (Op.UNLINK, b"none\0", errno.ENOENT),
        (Op.OPEN, wire.OPEN_IN.pack(0, 0), errno.EISDIR),
        (Op.LSEEK, wire.LSEEK_IN.pack(99, 0, os.SEEK_END, 0), errno.EINVAL),
        (Op.FALLOCATE, wire.FALLOCATE_IN.pack(99, 0, 1, 2, 0), errno.ENOTSUP),
        (Op.FALLOCATE, wire.FALLOCATE_IN.pack(99, 0, 1, 0, 0), errno.ESTALE),
        (Op.GETXATTR, bytes(8) + b"user.x\0", errno.ENOSYS),
        (Op.SETXATTR, bytes(8) + b"user.x\0", errno.ENOSYS),
        (Op.POLL, bytes(24), errno.ENOSYS),
        (Op.STATX, bytes(24), errno.ENOSYS),
        (4711, b"", errno.ENOSYS),
    ],
)
def test_refusals(kernel: FakeKernel, op: int, body: bytes, code: int) -> None:
    assert kernel.ask(op, 1, body).error == code
    assert Refused(code).code == code


def test_room_is_made_and_holes_are_found(kernel: FakeKernel) -> None:
    node = number_of(kernel, b"f")
    handle = opened(kernel, node)
    assert kernel.ask(Op.FALLOCATE, node, wire.FALLOCATE_IN.pack(handle, 0, 9000, 0, 0)).error == 0
    assert kernel.ask(Op.FALLOCATE, node, wire.FALLOCATE_IN.pack(handle, 0, 99000, 1, 0)).error == 0
    assert kernel.ask(Op.READ, node, read_body(handle, size=1 << 16)).body == b"hello" + bytes(8995)

    def seek(offset: int, whence: int) -> int:
        answer = kernel.ask(Op.LSEEK, node, wire.LSEEK_IN.pack(handle, offset, whence, 0))
        return -answer.error if answer.error else int.from_bytes(answer.body, "little")

    assert (seek(0, os.SEEK_DATA), seek(0, os.SEEK_HOLE), seek(6, os.SEEK_HOLE)) == (0, 5, 6)
    assert (seek(6, os.SEEK_DATA), seek(9000, os.SEEK_HOLE)) == (-errno.ENXIO, -errno.ENXIO)


def test_with_a_write_back_cache_only_the_kernel_knows_where_data_are_while_a_file_is_written(
    mounted: Mounted,
) -> None:
    """It may hold pages in what is a hole here: whoever copies what SEEK_DATA finds would lose them."""
    kernel = FakeKernel(mounted.ops, Wanted(writeback=True))
    node = number_of(kernel, b"f")
    writing, reading = opened(kernel, node, os.O_WRONLY), opened(kernel, node, os.O_RDONLY)
    body = wire.LSEEK_IN.pack(reading, 0, os.SEEK_DATA, 0)
    assert kernel.ask(Op.LSEEK, node, body).error == errno.EINVAL
    kernel.ask(Op.RELEASE, node, wire.RELEASE_IN.pack(writing, 0, 0, 0))
    assert kernel.ask(Op.LSEEK, node, body).error == 0
    kernel.close()


def test_statfs_access_and_destroy(kernel: FakeKernel) -> None:
    assert wire.STATFS_OUT.unpack(kernel.ask(Op.STATFS).body)[0] == 1 << 23
    assert kernel.ask(Op.ACCESS, 1, wire.ACCESS_IN.pack(os.W_OK, 0)).error == 0
    assert kernel.ask(Op.DESTROY).error == 0


def test_forgetting_has_no_answer(kernel: FakeKernel, mounted: Mounted) -> None:
    node = number_of(kernel, b"f")
    number_of(kernel, b"f")
    kernel.send(Op.FORGET, node, wire.FORGET_IN.pack(2))  # one is from when it was made
    assert mounted.ops.knows(node)
    kernel.send(Op.BATCH_FORGET, 0, wire.BATCH_FORGET_IN.pack(1, 0) + wire.FORGET_ONE.pack(node, 1))
    assert not mounted.ops.knows(node)
    assert kernel.answers() == []


def test_large_reads_and_what_waits_for_a_disk_give_the_lead_away(kernel: FakeKernel) -> None:
    node = number_of(kernel, b"f")
    handle = opened(kernel, node)
    before = kernel.reader.handed_over
    kernel.ask(Op.READ, node, read_body(handle, size=LARGE_READ_BYTES))
    assert kernel.reader.handed_over == before
    kernel.ask(Op.READ, node, read_body(handle, size=LARGE_READ_BYTES + 1))
    kernel.ask(Op.FSYNC, node, wire.FSYNC_IN.pack(handle, 0, 0))
    assert kernel.reader.handed_over == before + 2


def test_a_read_of_very_many_pieces_is_answered(kernel: FakeKernel, mounted: Mounted) -> None:
    """writev(2) takes 1,024 at a time."""
    live = mounted.ops.root.live
    letters = b"0123456789"
    mounted.engine.store.put(letters)
    node = number_of(kernel, b"f")
    locator = "781e5e245d69b566979b86e28d23f2c7+10"
    wanted = bytes(letters[number * 3 % 10] for number in range(3000))
    live.set_content(mounted.ops.host.inodes.find(node), [(1, locator, number * 3 % 10) for number in range(3000)])
    answer = kernel.ask(Op.READ, node, read_body(opened(kernel, node), size=1 << 16))
    assert (answer.error, answer.body) == (0, wanted)


def test_read_only_mounts_need_no_open(tmp_path: Path) -> None:
    text = b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n./d 5d41402abc4b2a76b9719d911017c592+5 0:5:g\n"
    mounted = Mounted(tmp_path, read_only=True, root=lambda engine: engine.new_collection("c", text).uuid)
    mounted.engine.store.put(b"hello")
    kernel = FakeKernel(mounted.ops, Wanted(no_open=True, no_opendir=True))
    file = number_of(kernel, b"f")
    assert kernel.ask(Op.OPEN, file, wire.OPEN_IN.pack(0, 0)).error == errno.ENOSYS
    assert kernel.ask(Op.OPENDIR, 1, wire.OPEN_IN.pack(0, 0)).error == errno.ENOSYS
    assert kernel.ask(Op.FLUSH, file, wire.FLUSH_IN.pack(0, 0, 0, 0)).error == errno.ENOSYS
    assert kernel.ask(Op.READ, file, read_body(0, 1, 3)).body == b"ell"
    for op in (Op.READDIR, Op.READDIRPLUS):  # the kernel has no handle: 0
        assert b"g" in kernel.ask(op, number_of(kernel, b"d"), read_body(0)).body
        assert kernel.ask(op, 1, read_body(0, offset=4)).body == b""
    assert kernel.ask(Op.WRITE, file, write_body(0, 0, b"x")).error == errno.EROFS
    kernel.close()
    mounted.close()


def test_a_generated_file_is_not_cached(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, root=lambda engine: engine.new_collection("c").uuid)
    kernel = FakeKernel(mounted.ops)
    node = number_of(kernel, b".arvados#collection")
    flags = wire.OPEN_OUT.unpack(kernel.ask(Op.OPEN, node, wire.OPEN_IN.pack(0, 0)).body)[1]
    assert flags == Fopen.DIRECT_IO
    kernel.close()
    mounted.close()


def test_what_was_agreed_is_kept(mounted: Mounted) -> None:
    kernel = FakeKernel(mounted.ops, Wanted(writeback=True, mask=Init.MAX_PAGES), offered=None)
    assert repr(kernel.session) == "<Session new requests=0 <Connection open parked=0>>"
    newer = kernel.ask(Op.INIT, 0, wire.INIT_IN.pack(8, 0, 0, 0))
    assert (newer.error, kernel.session.agreed) == (0, None)
    assert kernel.ask(Op.INIT, 0, wire.INIT_IN.pack(7, 5, 0, 0)).error == errno.ENOTSUP
    kernel.ask(Op.INIT, 0, wire.INIT_IN.pack(7, 31, 1 << 17, EVERYTHING & 0xFFFFFFFF))
    agreed = kernel.session.agreed
    assert agreed is not None
    assert (agreed.writeback, agreed.has(Init.MAX_PAGES)) == (True, False)
    assert isinstance(kernel.session, Session)
    assert kernel.session.fileno() >= 0
    kernel.close()
    kernel.close()
    assert "closed" in repr(kernel.session)


class Failing:
    """Operations of which everything fails as told."""

    uid = gid = 0
    read_only = False

    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            raise self._failure

        return call


@pytest.mark.parametrize("failure", [KeyError("a bug"), ValueError("a bug"), MemoryError(), Damaged("bytes")])
def test_a_bug_or_damage_is_eio_and_logged_with_its_place(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    kernel = FakeKernel(Failing(failure))
    assert kernel.ask(Op.GETATTR, 1, bytes(16)).error == errno.EIO
    assert "Traceback" in caplog.text
    assert "malformed" not in caplog.text
    caplog.clear()
    kernel.send(Op.FORGET, 1, wire.FORGET_IN.pack(1))
    assert kernel.answers() == []
    assert "Traceback" in caplog.text
    kernel.close()


def test_an_error_of_ours_is_never_a_malformed_request() -> None:
    kernel = FakeKernel(Failing(InvalidManifest("line 1")))  # is a ValueError too
    assert kernel.ask(Op.OPENDIR, 1, wire.OPEN_IN.pack(0, 0)).error == errno.EIO
    kernel.close()


def test_ordinary_failures_are_not_shouted(kernel: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert kernel.ask(Op.UNLINK, 1, b"none\0").error == errno.ENOENT
    assert caplog.text == ""


def test_a_short_message_is_not_read_by_what_was_in_the_buffer(
    kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.ask(Op.STATFS)
    for size in range(1, wire.IN_HEADER.size):
        kernel.send_raw(request(Op.GETATTR, 998, 1, b"")[:size])
    assert kernel.answers() == []
    assert caplog.text.count("malformed") == wire.IN_HEADER.size - 1


def test_pages_that_are_lost_are_told_to_every_handle(kernel: FakeKernel, mounted: Mounted) -> None:
    node = number_of(kernel, b"f")
    writing, reading = opened(kernel, node), opened(kernel, node, os.O_RDONLY)
    for flags, told in ((0, 0), (wire.WRITE_CACHE, errno.EFBIG)):
        answer = kernel.ask(Op.WRITE, node, write_body(writing, 1 << 60, b"x", flags=flags))
        assert answer.error == errno.EFBIG
        for handle in (reading, writing):
            assert kernel.ask(Op.FLUSH, node, wire.FLUSH_IN.pack(handle, 0, 0, 0)).error == told
            assert kernel.ask(Op.FLUSH, node, wire.FLUSH_IN.pack(handle, 0, 0, 0)).error == 0
