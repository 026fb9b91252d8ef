from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import Damaged, DigestCollision
from arvfuse.stores.blockfiles import (
    GC_LOCK,
    BlockFiles,
    Temporary,
    cannot_link,
    copy_file,
    link_descriptor,
    sync_directory,
)
from arvfuse.stores.hashing import write_all
from tests.support.stores import COLLIDING, flip, md5, noise


@pytest.fixture
def changed() -> set[Path]:
    return set()


@pytest.fixture
def files(tmp_path: Path, changed: set[Path]) -> BlockFiles:
    (tmp_path / "blocks").mkdir()
    return BlockFiles(tmp_path / "blocks", tmp_path / "quarantine", changed.add)


@pytest.fixture(params=["anonymous", "named"])
def temporary(request: pytest.FixtureRequest, files: BlockFiles) -> Iterator[Temporary]:
    with files.temporary() if request.param == "anonymous" else files.named_temporary() as made:
        yield made


def take(files: BlockFiles, data: bytes, digest: str | None = None) -> bool:
    with files.temporary() as file:
        write_all(file.fd, memoryview(data), 0)
        return files.take(digest or md5(data), len(data), file.fd)


def reader(data: bytes):  # type: ignore[no-untyped-def]  # a lambda with a name
    return lambda at, length: data[at : at + length]


def test_a_temporary_file_gets_its_name_and_leaves_none_of_its_own(
    files: BlockFiles, temporary: Temporary, changed: set[Path]
) -> None:
    write_all(temporary.fd, memoryview(b"foo"), 0)
    digest = md5(b"foo")
    assert files.take(digest, 3, temporary.fd)
    temporary_names = set(os.listdir(files.directory)) - {GC_LOCK, "acb"}
    assert len(temporary_names) <= 1
    assert files.path(digest) == files.directory / "acb" / digest
    assert files.path(digest).read_bytes() == b"foo"
    assert changed == {files.directory, files.directory / "acb"}
    assert list(files.names()) == [(digest, 3)]
    for directory in changed:
        sync_directory(directory)


def test_no_temporary_name_stays(files: BlockFiles) -> None:
    with files.named_temporary() as one, files.named_temporary() as two:
        assert len(os.listdir(files.directory)) == 2
        assert one.fd != two.fd
    assert os.listdir(files.directory) == []


def test_names_are_sorted_and_strangers_are_passed_over(files: BlockFiles) -> None:
    for data in (b"1", b"2", b"3"):
        take(files, data)
    (files.directory / "abc").mkdir()
    (files.directory / "abc" / ("d" * 32)).touch()
    (files.directory / "abc" / ".new-1").touch()
    (files.directory / "xyz").touch()
    assert list(files.names()) == sorted((md5(data), 1) for data in (b"1", b"2", b"3"))


def test_open_reads_a_block(files: BlockFiles) -> None:
    take(files, b"foo")
    fd = files.open(md5(b"foo"))
    assert os.pread(fd, 10, 0) == b"foo"
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        files.open(md5(b"bar"))
    assert repr(files) == f"<BlockFiles {files.directory}>"


def test_taking_equal_content_makes_the_old_block_young(files: BlockFiles, changed: set[Path]) -> None:
    assert take(files, b"foo")
    path = files.path(md5(b"foo"))
    inode = path.stat().st_ino
    os.utime(path, ns=(1, 1))
    changed.clear()
    assert not take(files, b"foo")
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime_ns > 1
    assert path.parent in changed
    os.utime(path, ns=(1, 1))
    assert files.keep(md5(b"foo"), 3, reader(b"foo"))
    assert path.stat().st_mtime_ns > 1
    assert not files.keep(md5(b"bar"), 3, reader(b"bar"))


def test_a_new_name_makes_the_file_young(files: BlockFiles) -> None:
    with files.temporary() as file:
        write_all(file.fd, memoryview(b"foo"), 0)
        os.utime(file.fd, ns=(1, 1))
        files.take(md5(b"foo"), 3, file.fd)
    assert files.path(md5(b"foo")).stat().st_mtime_ns > 1


def test_a_damaged_block_is_quarantined_and_replaced(files: BlockFiles, changed: set[Path]) -> None:
    data = noise(100_000)
    path = files.path(md5(data))
    for number in range(3):
        take(files, data)
        flip(path, 70_000 + number)
        bad = path.read_bytes()
        assert take(files, data)
        assert path.read_bytes() == data
        assert (files.quarantine / f"{md5(data)}.{number}").read_bytes() == bad
    assert {files.quarantine, path.parent} <= changed


def test_a_truncated_block_is_quarantined(files: BlockFiles) -> None:
    take(files, b"foobar")
    path = files.path(md5(b"foobar"))
    path.chmod(0o644)
    os.truncate(path, 3)
    assert not files.keep(md5(b"foobar"), 6, reader(b"foobar"))
    assert not path.exists()
    assert (files.quarantine / f"{path.name}.0").read_bytes() == b"foo"


def test_a_collision_is_refused(files: BlockFiles) -> None:
    first, second = COLLIDING
    take(files, first)
    with pytest.raises(DigestCollision):
        take(files, second)
    assert files.path(md5(first)).read_bytes() == first
    assert not files.quarantine.exists()


def test_content_that_is_not_of_its_name_is_our_fault(files: BlockFiles) -> None:
    take(files, b"foo")
    with pytest.raises(Damaged, match="not of that name"):
        take(files, b"bar", digest=md5(b"foo"))
    assert files.path(md5(b"foo")).read_bytes() == b"foo"


def test_a_name_is_given_under_the_lock_that_a_collector_takes(files: BlockFiles) -> None:
    collector = os.open(files.directory / GC_LOCK, os.O_RDWR | os.O_CREAT)
    held: list[tuple[str, bool]] = []

    def note(path: Path) -> None:
        try:
            fcntl.flock(collector, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(collector, fcntl.LOCK_UN)
            held.append((path.name, False))
        except BlockingIOError:
            held.append((path.name, True))

    assert take(BlockFiles(files.directory, files.quarantine, note), b"foo")
    assert held == [("blocks", True), ("acb", False)]  # between mkdir and link; after all is done
    fcntl.flock(collector, fcntl.LOCK_SH)
    assert take(files, b"bar")  # adopters share it
    os.close(collector)


def test_rewrite_gives_the_block_new_pages(files: BlockFiles, changed: set[Path]) -> None:
    data = noise(100_000)
    take(files, data)
    path = files.path(md5(data))
    inode = path.stat().st_ino
    keep_alive = os.open(path, os.O_RDONLY)  # so that the number is not used again
    flushed: list[int] = []
    changed.clear()
    files.rewrite(md5(data), flushed.append)
    os.close(keep_alive)
    assert len(flushed) == 1
    assert path.stat().st_ino != inode
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o444
    assert changed == {path.parent}
    assert not list(files.directory.rglob(".new-*"))


def test_rewrite_does_not_launder_damage(files: BlockFiles) -> None:
    take(files, b"foobar")
    flip(files.path(md5(b"foobar")))
    with pytest.raises(Damaged):
        files.rewrite(md5(b"foobar"), lambda _: None)


def test_cannot_link() -> None:
    assert cannot_link(OSError(errno.EXDEV, ""))
    assert not cannot_link(OSError(errno.ENOSPC, ""))


def test_copy_file(tmp_path: Path) -> None:
    data = noise(2_500_000)
    (tmp_path / "a").write_bytes(data)
    source = os.open(tmp_path / "a", os.O_RDONLY)
    target = os.open(tmp_path / "b", os.O_RDWR | os.O_CREAT)
    copy_file(source, target)
    os.close(source)
    os.close(target)
    assert (tmp_path / "b").read_bytes() == data


def test_link_descriptor_follows_a_rename(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"foo")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    (tmp_path / "a").rename(tmp_path / "b")
    link_descriptor(fd, tmp_path / "c")
    with pytest.raises(FileExistsError):
        link_descriptor(fd, tmp_path / "c")
    os.close(fd)
    assert os.path.samefile(tmp_path / "b", tmp_path / "c")
