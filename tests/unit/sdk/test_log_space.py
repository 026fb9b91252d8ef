"""The log on a full disk: the reserve first, then nothing more is taken, and what was promised stays readable.

Without descriptors it goes on in the file that it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.model import records
from arvfuse.sdk.log import RESERVE_BYTES, LogReader, LogWriter, log_numbers
from tests.support.clock import FakeClock
from tests.support.smalldisk import no_descriptors, run_on_small_disk

DISK = 1 << 20
PRELUDE = f"""
import json, os, sys
from pathlib import Path
from arvfuse.clock import SystemClock
from arvfuse.errors import LogFailed, NoSpace
from arvfuse.model import records
from arvfuse.sdk.log import LogReader, {LogWriter.__name__}

top = Path(sys.argv[1])
INLINE = records.CODES[records.WriteInline]

def writer(**options):
    return LogWriter(top, boot_id=bytes(16), clock=SystemClock(), **options)

def write(log, data):
    seq, address = log.append(1, INLINE, records.encode_inline(5, 0), data)
    log.flush(seq)
    return address

def fill(leave):
    room = os.statvfs(top).f_bavail * os.statvfs(top).f_frsize - leave
    (top / "ballast").write_bytes(bytes(room))

def failure(attempt):
    try:
        attempt()
    except (LogFailed, NoSpace) as exc:
        return type(exc).__name__
    return None

def lengths():
    return [record.body.length for record in LogReader(top).read()]
"""


def run(script: str, tmp_path: Path) -> dict[str, object]:
    found = run_on_small_disk(PRELUDE + script, tmp_path, size=DISK)
    assert isinstance(found, dict)
    return found


def test_a_full_disk_is_what_the_reserve_is_for(tmp_path: Path) -> None:
    script = """
log = writer(reserve_bytes=256 << 10)
first = write(log, b"a" * 100_000)
fill(leave=20_000)
before = (top / "log" / "reserve").stat().st_size
second = write(log, b"b" * 100_000)
print(json.dumps({
    "before": before, "left": (top / "log" / "reserve").exists(), "lengths": lengths(),
    "read": bytes(log.read(first, 100_000) + log.read(second, 100_000)) == b"a" * 100_000 + b"b" * 100_000,
}))
"""
    found = run(script, tmp_path)
    assert found == {"before": 256 << 10, "left": False, "lengths": [100_000, 100_000], "read": True}


def test_the_reserve_is_for_a_new_file_too(tmp_path: Path) -> None:
    script = """
log = writer(reserve_bytes=256 << 10, file_bytes=4096)
write(log, b"a" * 4000)
fill(leave=0)
write(log, b"b" * 4000)
print(json.dumps({"files": log.numbers(), "lengths": lengths(), "left": (top / "log" / "reserve").exists()}))
"""
    assert run(script, tmp_path) == {"files": [1, 2], "lengths": [4000, 4000], "left": False}


def test_without_a_reserve_nothing_more_is_taken(tmp_path: Path) -> None:
    script = """
log = writer()
address = write(log, b"a" * 1000)
fill(leave=20_000)
failures = [failure(lambda: write(log, b"b" * 100_000)) for _ in range(2)]
(top / "ballast").unlink()
failures += [failure(lambda: write(log, b"c")), failure(log.sync), failure(lambda: log.flush(1)), failure(log.close)]
log = writer()
print(json.dumps({"failures": failures, "lengths": lengths()}))
"""
    found = run(script, tmp_path)
    assert found["failures"] == ["LogFailed", "LogFailed", "LogFailed", "LogFailed", None, None]
    assert found["lengths"] == [1000]  # nothing of the record that did not fit


def test_a_reserve_that_has_no_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    script = f"""
reserve = failure(lambda: writer(reserve_bytes={RESERVE_BYTES}))
print(json.dumps({{"failure": reserve, "left": os.listdir(top / "log")}}))
"""
    assert run(script, tmp_path) == {"failure": "NoSpace", "left": []}


def test_while_the_reserve_is_in_use_nothing_new_is_begun_and_what_was_is_finished(tmp_path: Path) -> None:
    """Promise D4: create and open for writing find no space, the handles that are open go on, and so does deleting."""
    script = """
from arvfuse.model.collections import MountId
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore

space = Workspace(top, mount=MountId("m"), store=MemoryStore(), clock=SystemClock(), reserve_bytes=256 << 10)
tree = space.open_tree(None, None, kind="output")
file = tree.create(tree.root, b"open")
other = tree.create(tree.root, b"other")
tree.opened(file, write=True)
fill(leave=20_000)
written = [tree.write(file, number * 10_000, b"x" * 10_000) for number in range(5)]
full = [
    failure(lambda: tree.create(tree.root, b"new")), failure(lambda: tree.mkdir(tree.root, b"new")),
    failure(lambda: tree.opened(other, write=True)), failure(lambda: tree.opened(other, write=False)),
    failure(lambda: tree.unlink(tree.root, b"other")), failure(lambda: tree.append(file, b"more")),
]
handles = other.handles, other.writers
(top / "ballast").unlink()
again = failure(lambda: tree.create(tree.root, b"new"))
print(json.dumps({
    "written": written, "full": full, "handles": handles, "again": again, "size": file.size,
    "reserve": (top / "log" / "reserve").stat().st_size,
}))
"""
    found = run(script, tmp_path)
    assert found == {
        "written": [10_000] * 5, "full": ["NoSpace", "NoSpace", "NoSpace", None, None, None], "handles": [1, 0],
        "again": None, "size": 50_004, "reserve": 256 << 10,
    }  # fmt: skip


def test_with_the_reserve_gone_too_what_is_refused_is_not_there(tmp_path: Path) -> None:
    script = """
from arvfuse.model.collections import MountId
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore

space = Workspace(top, mount=MountId("m"), store=MemoryStore(), clock=SystemClock(), reserve_bytes=64 << 10)
tree = space.open_tree(None, None, kind="output")
file = tree.create(tree.root, b"open")
fill(leave=0)
failures, done = [], 0
while not failures:
    failures = [why for why in [failure(lambda: tree.append(file, b"x" * 10_000))] if why]
    done += not failures
failures.append(failure(lambda: tree.unlink(tree.root, b"open")))
failures.append(failure(lambda: tree.rename(tree.root, b"open", tree.root, b"x")))
print(json.dumps({
    "failures": failures, "size": file.size - done * 10_000, "some": done > 3,
    "names": [name.decode() for name, _ in tree.entries(tree.root)],
    "read": len(bytes(tree.read(file, 0, 1 << 20))) - file.size,
}))
"""
    found = run(script, tmp_path)
    assert found == {"failures": ["LogFailed"] * 3, "size": 0, "some": True, "names": ["open"], "read": 0}


INLINE = records.CODES[records.WriteInline]


def put(log: LogWriter, size: int) -> int:
    seq, address = log.append(1, INLINE, records.encode_inline(5, 0), b"x" * size)
    log.flush(seq)
    return address


def lengths(directory: Path) -> list[int]:
    reader = LogReader(directory)
    found = [record.body.length for record in reader.read() if isinstance(record.body, records.WriteInline)]
    reader.close()
    return found


@pytest.mark.parametrize("ahead", [0, 600], ids=["in the first half", "in the second half"])
def test_without_descriptors_the_current_file_grows(
    ahead: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogWriter(tmp_path, boot_id=bytes(16), clock=FakeClock(), file_bytes=1000)
    put(log, 100)
    if ahead:
        put(log, ahead)  # there the next file is opened
    with no_descriptors():
        for size in (500, 501, 502, 503):
            put(log, size)
    numbers = log.numbers()
    assert numbers == ([1, 2] if ahead else [1])
    put(log, 504)  # the descriptor comes back
    put(log, 505)
    assert log.numbers() == log_numbers(tmp_path) == [*numbers, numbers[-1] + 1]
    assert lengths(tmp_path) == [100, *([ahead] if ahead else []), 500, 501, 502, 503, 504, 505]
    assert caplog.text.count("cannot be opened") == 1
    log.close()
    assert os.listdir(tmp_path / "log") == [f"{number:08d}" for number in log_numbers(tmp_path)]


def test_a_mount_has_its_first_file_open_before_it_begins(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, boot_id=bytes(16), clock=FakeClock(), reserve_bytes=4096)
    with no_descriptors():
        put(log, 100)
    assert (log.numbers(), lengths(tmp_path)) == ([1], [100])
    log.close()


def test_a_sync_that_finds_no_descriptor_is_repeated(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, boot_id=bytes(16), clock=FakeClock())
    put(log, 100)
    with no_descriptors(), pytest.raises(StoreUnavailable):
        log.sync()
    log.sync()
    put(log, 100)
    log.close()
