"""The log: what is written when, where data are read, and how a log is read that is being written or was cut off."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import Damaged, LogFailed, SchemaMismatch
from arvfuse.model import records
from arvfuse.model.records import CODES, FILE_HEADER, HEADER, Body, split_address
from arvfuse.sdk.log import (
    LOG_FILE_BYTES,
    RESERVE_BYTES,
    DroppedLog,
    LogReader,
    LogWriter,
    log_numbers,
    log_path,
    sync_directory,
    write_all,
)
from tests.support.clock import FakeClock

BOOT = bytes(range(16))


def writer(directory: Path, *, file_bytes: int = LOG_FILE_BYTES, reserve_bytes: int = 0) -> LogWriter:
    return LogWriter(directory, boot_id=BOOT, clock=FakeClock(), file_bytes=file_bytes, reserve_bytes=reserve_bytes)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogWriter]:
    log = writer(tmp_path)
    yield log
    log.close()


def truncation(log: LogWriter, number: int, wall_ns: int = 0) -> int:
    body = records.Truncate(number, number)
    return log.append(1, CODES[records.Truncate], records.encode(body), wall_ns=wall_ns)[0]


def data(log: LogWriter, data: bytes) -> tuple[int, int]:
    return log.append(1, CODES[records.WriteInline], records.encode_inline(7, 0), data)


def bodies(directory: Path) -> list[Body]:
    reader = LogReader(directory)
    found = [record.body for record in reader.read()]
    reader.close()
    return found


def truncations(*numbers: int) -> list[records.Truncate]:
    return [records.Truncate(number, number) for number in numbers]


def test_append_does_no_io_and_flush_writes_all_that_is_queued(log: LogWriter, tmp_path: Path) -> None:
    assert [truncation(log, number) for number in (1, 2, 3)] == [1, 2, 3]
    assert (log.seq, log.flushed_seq, log_numbers(tmp_path)) == (3, 0, [])
    log.flush(1)
    assert (log.seq, log.flushed_seq, log_numbers(tmp_path)) == (3, 3, [1])
    assert bodies(tmp_path) == truncations(1, 2, 3)
    size = log_path(tmp_path, 1).stat().st_size
    log.flush(3)
    assert log_path(tmp_path, 1).stat().st_size == size
    assert repr(log) == "<LogWriter open seq=3 flushed=3 file=1>"


def test_a_file_says_whose_it_is(log: LogWriter, tmp_path: Path) -> None:
    log.flush(truncation(log, 1))
    head = log_path(tmp_path, 1).read_bytes()[: FILE_HEADER.size]
    assert records.check_file_header(head, 1) == BOOT
    reader = LogReader(tmp_path)
    (record,) = reader.read()
    reader.close()
    assert (reader.boot_id, record.seq, record.tree, record.wall_ns) == (BOOT, 1, 1, FakeClock().time_ns())


def test_inline_data_is_read_from_memory_and_then_from_the_file(log: LogWriter, tmp_path: Path) -> None:
    _, first = data(log, b"0123456789")
    seq, second = data(log, b"abc")
    for _ in range(2):  # before and after the flush
        assert bytes(log.read(first + 2, 5)) == b"23456"
        assert bytes(log.read(second, 3)) == b"abc"
        log.flush(seq)
    number, position = split_address(first)
    assert log_path(tmp_path, number).read_bytes()[position : position + 10] == b"0123456789"
    (one, two) = bodies(tmp_path)
    assert (one, two) == (records.WriteInline(7, 0, 10, first), records.WriteInline(7, 0, 3, second))
    with pytest.raises(Damaged):
        log.read(second, 4)


def test_files_are_numbered_and_a_record_is_never_in_two(tmp_path: Path) -> None:
    log = writer(tmp_path, file_bytes=256)
    addresses = [data(log, bytes([number]) * 100)[1] for number in range(4)]
    _, big = data(log, b"x" * 1000)  # longer than a file may be: it gets one
    _, last = data(log, b"y")
    assert log.file_number == split_address(last)[0] == 6
    assert bytes(log.read(addresses[1], 100)) == b"\1" * 100
    log.flush(1)
    assert log.numbers() == log_numbers(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert bytes(log.read(addresses[1], 100)) == b"\1" * 100
    assert bytes(log.read(big, 1000)) == b"x" * 1000
    assert all(log_path(tmp_path, number).stat().st_size <= 256 for number in (1, 2, 3, 4, 6))
    assert len(bodies(tmp_path)) == 6
    log.close()


def test_a_second_life_starts_behind_the_files_of_the_first(tmp_path: Path) -> None:
    first = writer(tmp_path)
    truncation(first, 1)
    first.close()  # writes what is queued
    second = LogWriter(tmp_path, boot_id=BOOT, clock=FakeClock(), first_seq=2)
    assert truncation(second, 2) == 2
    second.close()
    assert log_numbers(tmp_path) == [1, 2]
    assert bodies(tmp_path) == truncations(1, 2)


def test_a_dropped_file_is_gone_and_the_current_one_is_never_dropped(tmp_path: Path) -> None:
    log = writer(tmp_path, file_bytes=256)
    seq, first = data(log, b"a" * 200)
    seq, second = data(log, b"b" * 200)
    log.flush(seq)
    size = log_path(tmp_path, 1).stat().st_size
    assert (log.drop(1), log.drop(1), log.drop(2), log.drop(9)) == (size, 0, 0, 0)
    assert (log.numbers(), log_numbers(tmp_path)) == ([2], [2])
    with pytest.raises(DroppedLog):
        log.read(first, 1)
    assert bytes(log.read(second, 1)) == b"b"
    log.close()


def test_a_read_that_began_outlives_the_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = writer(tmp_path, file_bytes=256)
    _, first = data(log, b"a" * 200)
    log.flush(data(log, b"b" * 200)[0])
    pread = os.pread

    def drop_meanwhile(fd: int, length: int, offset: int) -> bytes:
        assert log.drop(1) > 200
        return pread(fd, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", drop_meanwhile)
        assert log.read(first, 200) == b"a" * 200
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    assert not [name for name in open_files if str(tmp_path) in name and "deleted" in name]
    log.close()


def _is_link(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_the_reserve_takes_its_room_at_once(tmp_path: Path) -> None:
    log = writer(tmp_path, reserve_bytes=1 << 20)
    status = (tmp_path / "log" / "reserve").stat()
    assert (status.st_size, status.st_blocks * 512 >= 1 << 20, RESERVE_BYTES) == (1 << 20, True, 64 << 20)
    assert log_numbers(tmp_path) == []
    log.close()


def test_sync_writes_what_is_queued(log: LogWriter, tmp_path: Path) -> None:
    truncation(log, 1)
    log.sync()
    assert (log.flushed_seq, bodies(tmp_path)) == (1, truncations(1))


def test_many_threads_get_one_order(tmp_path: Path) -> None:
    log = writer(tmp_path, file_bytes=4096)
    got: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            seq = truncation(log, number)
            log.flush(seq)
            assert log.flushed_seq >= seq
            got.append(seq)

    threads = [threading.Thread(target=work, args=(number,), name=f"appender{number}") for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(got) == list(range(1, 201))
    reader = LogReader(tmp_path)
    assert [record.seq for record in reader.read()] == list(range(1, 201))
    reader.close()


def test_a_reader_follows_a_log_that_is_being_written(tmp_path: Path) -> None:
    log = writer(tmp_path, file_bytes=200)
    reader = LogReader(tmp_path)
    assert list(reader.read()) == []
    for number in range(1, 12):
        log.flush(truncation(log, number))
        assert [record.body for record in reader.read()] == truncations(number)
        assert list(reader.read()) == []
    assert len(log.numbers()) > 2
    reader.close()
    reader.close()
    log.close()


def test_a_record_is_read_when_it_is_wholly_there(log: LogWriter, tmp_path: Path) -> None:
    log.flush(truncation(log, 1))
    log.flush(truncation(log, 2))
    whole = log_path(tmp_path, 1).read_bytes()
    size = (len(whole) - FILE_HEADER.size) // 2
    log_path(tmp_path, 1).write_bytes(whole[:0])
    reader = LogReader(tmp_path)
    seen: list[Body] = []
    for end in range(len(whole) + 1):
        with open(log_path(tmp_path, 1), "r+b") as file:
            file.write(whole[:end])
        seen += [record.body for record in reader.read()]
        assert seen == truncations(1, 2)[: max(0, end - FILE_HEADER.size) // size]
    reader.close()


def test_a_cut_off_record_ends_a_dead_log(log: LogWriter, tmp_path: Path) -> None:
    log.flush(truncation(log, 1))
    end = log_path(tmp_path, 1).stat().st_size
    log.flush(data(log, b"x" * 1000)[0])
    for cut in (HEADER.size + 500, HEADER.size, HEADER.size - 1, 1):
        os.truncate(log_path(tmp_path, 1), end + cut)
        assert bodies(tmp_path) == truncations(1)


def test_a_cut_off_record_in_the_middle_is_damage(tmp_path: Path) -> None:
    log = writer(tmp_path, file_bytes=200)
    log.flush([truncation(log, number) for number in range(1, 9)][-1])
    log.close()
    os.truncate(log_path(tmp_path, 1), log_path(tmp_path, 1).stat().st_size - 1)
    reader = LogReader(tmp_path)
    with pytest.raises(Damaged, match="ends inside a record, and is not the last"):
        list(reader.read())
    reader.close()


def test_a_flipped_bit_is_damage(log: LogWriter, tmp_path: Path) -> None:
    log.flush(truncation(log, 1))
    content = bytearray(log_path(tmp_path, 1).read_bytes())
    content[-1] ^= 1
    log_path(tmp_path, 1).write_bytes(content)
    with pytest.raises(Damaged, match="wrong check sum"):
        bodies(tmp_path)


def test_a_file_of_somebody_else_is_not_read(log: LogWriter, tmp_path: Path) -> None:
    log.flush(truncation(log, 1))
    content = log_path(tmp_path, 1).read_bytes()
    os.rename(log_path(tmp_path, 1), log_path(tmp_path, 2))
    with pytest.raises(Damaged, match="not this one"):
        bodies(tmp_path)
    newer = FILE_HEADER.pack(content[:8], 2, 2, BOOT)
    log_path(tmp_path, 2).write_bytes(newer)
    with pytest.raises(SchemaMismatch):
        bodies(tmp_path)


def test_a_directory_without_a_log_has_no_records(tmp_path: Path) -> None:
    assert (log_numbers(tmp_path / "nothing"), bodies(tmp_path / "nothing")) == ([], [])
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "reserve").touch()
    log_path(tmp_path, 1).touch()  # cut off at birth
    assert (log_numbers(tmp_path), bodies(tmp_path)) == ([1], [])


def test_write_all_goes_on_after_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [b"".join(parts)[:7]]))
    parts: list[bytes | memoryview] = [
        b"",
        b"01",
        memoryview(b"23456789"),
        b"",
        *(b"%d" % (n % 10) for n in range(2500)),
    ]
    with open(tmp_path / "f", "wb") as file:
        write_all(file.fileno(), parts)
    assert (tmp_path / "f").read_bytes() == b"".join(parts)


def test_a_record_that_belongs_to_a_file_is_not_put_into_the_next(tmp_path: Path) -> None:
    log = writer(tmp_path, file_bytes=1000)
    inline = CODES[records.WriteInline]
    assert log.append_in(1, 1, inline, records.encode_inline(7, 0), bytes(800)) is not None
    assert log.append_in(1, 1, inline, records.encode_inline(7, 0), bytes(200)) is None
    assert (log.file_number, log.seq) == (2, 1)
    assert log.append_in(2, 1, inline, records.encode_inline(7, 0), bytes(200)) is not None
    log.close()
    assert (log_numbers(tmp_path), len(bodies(tmp_path))) == ([1, 2], 2)


def test_a_second_sync_returns_when_the_first_did(log: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was asked for is among the bytes that the first has on their way to the disk."""
    truncation(log, 1)
    order: list[str] = []
    second = threading.Thread(target=lambda: (log.sync(), order.append("second")))

    def slowly(_: int) -> None:
        monkeypatch.undo()
        second.start()
        second.join(0.1)
        order.append("on the disk")

    monkeypatch.setattr(os, "fdatasync", slowly)
    log.sync()
    second.join()
    assert order == ["on the disk", "second"]


def test_a_disk_that_refused_a_sync_is_not_believed_again(log: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    truncation(log, 1)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patches:
        patches.setattr(os, "fdatasync", refuse)
        with pytest.raises(LogFailed):
            log.sync()
    with pytest.raises(LogFailed):
        truncation(log, 2)
    with pytest.raises(LogFailed):
        log.sync()


def test_bytes_that_are_not_written_yet_are_read_as_they_were(log: LogWriter) -> None:
    buffer = bytearray(b"before")
    _, address = log.append(1, CODES[records.WriteInline], records.encode_inline(7, 0), memoryview(buffer))
    found = log.read(address, 6)
    log.flush(1)
    buffer[:] = b"after!"
    assert found == log.read(address, 6) == b"before"


def test_the_first_sync_makes_the_place_of_the_log_safe_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log whose directory has no name after a power cut is as good as none."""
    directory = tmp_path / "mounts" / "m1"
    log = writer(directory)
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    truncation(log, 1)
    log.sync()
    wanted = {str(path) for path in (directory / "log", directory, directory.parent, tmp_path)}
    assert set(synced) == wanted
    synced.clear()
    truncation(log, 2)
    log.sync()
    assert synced == [str(directory / "log")]
    log.close()


def test_only_a_directory_has_names_to_sync(tmp_path: Path) -> None:
    assert sync_directory(tmp_path) is None  # type: ignore[func-returns-value] # it does not raise
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")
