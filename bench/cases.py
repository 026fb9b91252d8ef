"""The cases of `python -m bench`: each measures one promise of speed or size and adds its rows to the table.

Every comparison is made in one run, interleaved, and judged by the median of the pairs' ratios: the machine is shared.
Rates are of whole commands as a user would wait for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import arvfuse.session
from arvfuse.backend.parts import open_parts
from arvfuse.clock import SystemClock
from arvfuse.model.collections import CollectionRecord
from bench.mounting import arvfuse as command
from bench.mounting import detach, mounted
from bench.processes import PeakMemory, anonymous_bytes, cpu_seconds, mount_processes
from bench.table import Row, Table, median_ratio

MIB: Final = 1 << 20
ROUNDS: Final = 3
CHUNK: Final = 1 << 20
PAGE: Final = 4096


def timed(work: Callable[[], object]) -> float:
    """Seconds that *work* takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_file(path: Path, data: memoryview, size: int, *, sync: bool = False) -> None:
    """Write *size* bytes, made of *data* again and again with a counter in each chunk so that no two are equal."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for offset in range(0, size, len(data)):
            data[:8] = offset.to_bytes(8, "little")
            done = 0
            part = data[: min(len(data), size - offset)]
            while done < len(part):
                done += os.write(fd, part[done:])
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def commit(collection: Path) -> dict[str, object]:
    """Commit a collection on demand and return its record."""
    record: dict[str, object] = json.loads((collection / ".arvados#collection").read_text())
    return record


def collection_of(mountpoint: Path, name: str) -> Path:
    path = mountpoint / "home" / name
    path.mkdir()
    return path


@contextmanager
def bare_mount(mountpoint: Path, preallocate_mib: int) -> Iterator[Path]:
    """The bare llfuse file system at *mountpoint*."""
    mountpoint.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "bench.bare_llfuse", str(mountpoint), "--preallocate", str(preallocate_mib)]
    server = subprocess.Popen(words)
    try:
        deadline = time.monotonic() + 60
        while not os.path.ismount(mountpoint):
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError("the bare file system did not start")
            time.sleep(0.05)
        yield mountpoint
    finally:
        detach(mountpoint)
        server.wait(60)


def sequential_write(table: Table, top: Path, size: int, *, driver: str) -> None:
    """1 GiB in 1 MiB writes: against the bare transport, and with fsync and commit against cp + md5sum + sync."""
    data = memoryview(bytearray(random.Random(7).randbytes(CHUNK)))
    source = top / "source"
    write_file(source, data, size, sync=True)
    ours: list[float] = []
    bare: list[float] = []
    whole: list[float] = []
    native: list[float] = []
    library: list[float] = []
    cpu: list[float] = []
    with (
        bare_mount(top / "bare", size // MIB) as plain,
        mounted(top / "store", top / "mnt", "--read-write", driver=driver) as mountpoint,
    ):
        for turn in range(ROUNDS):
            bare.append(size / timed(lambda: write_file(plain / "f", data, size)))
            (plain / "f").unlink()
            home = collection_of(mountpoint, f"seq{turn}")
            pids = mount_processes(mountpoint)
            before = cpu_seconds(pids)
            first = timed(lambda home=home: write_file(home / "f", data, size))  # type: ignore[misc] # bound now
            ours.append(size / first)
            rest = timed(lambda home=home: _sync_and_commit(home))  # type: ignore[misc] # bound now
            cpu.append((cpu_seconds(pids) - before) * (1 << 30) / size)
            whole.append(size / (first + rest))
            native.append(size / timed(lambda: _native_copy(source, top / "copy")))
            library.append(size / timed(lambda turn=turn: _library_write(top / "store", data, size, turn)))  # type: ignore[misc]
    table.add(Row("sequential write, no fsync / bare llfuse", median_ratio(ours, bare), "ratio", 0.5))
    note = f"{statistics.median(ours) / MIB:.0f} MiB/s against {statistics.median(bare) / MIB:.0f}"
    table.add(Row("sequential write, no fsync", statistics.median(ours) / MIB, "MiB/s", note=note))
    table.add(Row("sequential write + fsync + commit / cp+md5sum+sync", median_ratio(whole, native), "ratio", 0.6))
    note = f"{statistics.median(whole) / MIB:.0f} MiB/s against {statistics.median(native) / MIB:.0f}"
    table.add(Row("sequential write + fsync + commit", statistics.median(whole) / MIB, "MiB/s", note=note))
    table.add(Row("CPU of the mount's processes", statistics.median(cpu), "s/GiB"))
    table.add(Row("the same through an SDK handle, saved", statistics.median(library) / MIB, "MiB/s"))


def _sync_and_commit(collection: Path) -> None:
    fd = os.open(collection / "f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    commit(collection)


def _native_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["md5sum", str(target)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["sync", str(target)], check=True)


def _library_write(store: Path, data: memoryview, size: int, turn: int) -> None:
    with arvfuse.session.open(store) as session:
        collection = session.new()
        with collection.open("f", "wb") as handle:
            for offset in range(0, size, len(data)):
                data[:8] = (offset + turn + 1).to_bytes(8, "little")
                handle.write(data)
        collection.save_new(name=f"library {turn}", ensure_unique_name=True)


def small_files(table: Table, top: Path, count: int, *, driver: str) -> None:
    """Files of 4 KiB: the last tenth costs what the first did, and one save follows a quiet period."""
    page = bytearray(random.Random(8).randbytes(PAGE))
    tenth = count // 10
    first: list[float] = []
    last: list[float] = []
    total = 0.0
    with mounted(top / "store", top / "mnt", "--read-write", driver=driver) as mountpoint:
        for turn in range(ROUNDS):
            home = collection_of(mountpoint, f"small{turn}")
            took = [timed(lambda at=part * tenth, home=home: _make_small(home, at, tenth, page)) for part in range(10)]  # type: ignore[misc]
            first.append(took[0])
            last.append(took[-1])
            total += sum(took)
            before = _version(top / "store", f"small{turn}")
            time.sleep(5)
        saves = _version(top / "store", f"small{turn}") - before
    table.add(Row("4 KiB files: last tenth / first tenth", median_ratio(last, first), "ratio", 1.5, at_least=False))
    table.add(Row("4 KiB files created, written, closed", ROUNDS * count / total, "files/s"))
    table.add(Row("saves in the quiet period after", saves, "saves", 1, at_least=False))


def _make_small(home: Path, first: int, count: int, page: bytearray) -> None:
    for number in range(first, first + count):
        if number % 1000 == 0:
            (home / f"d{number // 1000}").mkdir()
        page[:8] = number.to_bytes(8, "little")
        fd = os.open(home / f"d{number // 1000}" / f"f{number}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, page)
        os.close(fd)


def _version(store: Path, name: str) -> int:
    parts = open_parts(store, clock=SystemClock(), read_only=True)
    try:
        record = parts.catalog.find(parts.catalog.home().uuid, name)
    finally:
        parts.close()
    assert isinstance(record, CollectionRecord)
    return int(record.version)


def many_files(table: Table, top: Path, directories: int, each: int, *, driver: str) -> None:
    """A collection of a million files: open, list, change, commit; and others' requests while it commits."""
    store = top / "store"
    parts = open_parts(store, clock=SystemClock(), create=True)
    try:
        block = parts.store.put(os.urandom(MIB))
        lines = []
        for number in range(directories):
            files = " ".join(f"{(k * 61) % (MIB - 64)}:64:file{k:07d}" for k in range(each))
            lines.append(f"./dir{number:05d} {block} {files}\n")
        uuid = parts.catalog.create(name="many", manifest="".join(lines).encode()).uuid
    finally:
        parts.close()
    one = f"dir00500/file{each // 10:07d}"
    for name, target in (("first time ever", 3.0), ("again", 1.0)):
        with mounted(store, top / "mnt", "--read-write", driver=driver) as mountpoint:
            many = mountpoint / "home" / "many"
            took = timed(lambda many=many: (many / one).read_bytes())  # type: ignore[misc]
            table.add(Row(f"1,000,000 files: open and read one, {name}", took, "s", target, at_least=False))
    with mounted(store, top / "mnt", "--read-write", driver=driver) as mountpoint:
        many = mountpoint / "home" / "many"
        (many / one).read_bytes()
        took = timed(lambda: os.listdir(many / "dir00007"))
        table.add(Row("1,000,000 files: list a directory", took * 1000, "ms", 50, at_least=False))
        memory = anonymous_bytes(mount_processes(mountpoint)) / MIB
        table.add(Row("1,000,000 files: anonymous memory", memory, "MiB", 300, at_least=False))
        start = time.perf_counter()
        (many / "dir00003" / "file0000001").write_bytes(b"changed")
        commit(mountpoint / "by_id" / uuid)
        table.add(Row("1,000,000 files: change one, committed", time.perf_counter() - start, "s", 3, at_least=False))
        _requests_during_commit(table, mountpoint, many)


def _requests_during_commit(table: Table, mountpoint: Path, many: Path) -> None:
    other = collection_of(mountpoint, "other")
    for number in range(2000):
        (other / f"s{number}").touch()
    commit(other)
    ratios: dict[str, list[float]] = {"stat": [], "create": []}
    rates: dict[str, list[float]] = {"stat": [], "create": []}
    for turn in range(5):
        for kind, rate in (("stat", _stat_rate), ("create", _create_rate)):
            (many / "dir00004" / "file0000001").write_bytes(f"again {kind} {turn}".encode())
            calm_until = time.monotonic() + 0.3
            calm = rate(other, f"idle{turn}-", lambda end=calm_until: time.monotonic() >= end)  # type: ignore[misc]
            words = [sys.executable, "-S", "-c", f"open({str(many / '.arvados#collection')!r}).read()"]
            reader = subprocess.Popen(words)
            busy = rate(other, f"busy{turn}-", lambda reader=reader: reader.poll() is not None)  # type: ignore[misc]
            ratios[kind].append(busy / calm)
            rates[kind].append(calm)
    for kind, each in ratios.items():
        note = f"{statistics.median(rates[kind]):.0f}/s idle"
        name = f"{kind}/s while a million files are committed / idle"
        table.add(Row(name, statistics.median(each), "ratio", 0.7, note=note))


def _stat_rate(directory: Path, prefix: str, over: Callable[[], bool]) -> float:
    """stat(2) of existing files per second until *over*."""
    names = [os.fsencode(directory / f"s{number}") for number in range(2000)]
    start, done = time.perf_counter(), 0
    while not over():
        for name in names[:500]:
            os.stat(name)
        done += 500
    return done / (time.perf_counter() - start)


def _create_rate(directory: Path, prefix: str, over: Callable[[], bool]) -> float:
    """New empty files per second until *over*."""
    start, done = time.perf_counter(), 0
    while not over():
        for number in range(done, done + 20):
            os.close(os.open(directory / f"{prefix}{number}", os.O_CREAT | os.O_WRONLY, 0o644))
        done += 20
    return done / (time.perf_counter() - start)


def one_directory(table: Table, top: Path, count: int, *, driver: str) -> None:
    """A million files in one directory: listed for the first time while others work, and what that leaves in memory."""
    parts = open_parts(top / "store", clock=SystemClock(), create=True)
    try:
        block = parts.store.put(os.urandom(MIB))
        files = " ".join(f"{k % (MIB - 64)}:64:file{k:07d}" for k in range(count))
        parts.catalog.create(name="one", manifest=f"./big {block} {files}\n./small {block} 0:1:f\n".encode())
    finally:
        parts.close()
    with mounted(top / "store", top / "mnt", driver=driver) as mountpoint:
        one = mountpoint / "home" / "one"
        (one / "small" / "f").read_bytes()
        lister = "import os, sys; print(sum(1 for _ in os.scandir(sys.argv[1])))"
        start = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", lister, str(one / "big")], stdout=subprocess.PIPE) as listing:
            waits = [0.0]
            while listing.poll() is None:
                waits.append(timed(lambda: (one / "small" / f"missing{len(waits)}").exists()))
            assert listing.stdout is not None
            assert int(listing.stdout.read()) == count
        name = "1,000,000 files in one directory"
        table.add(Row(f"{name}: list it first", time.perf_counter() - start, "s", 20, at_least=False))
        table.add(Row(f"{name}: longest wait of others meanwhile", max(waits) * 1000, "ms", 500, at_least=False))
        took = timed(lambda: os.stat(one / "big" / f"file{count // 2:07d}"))
        table.add(Row(f"{name}: stat one", took * 1000, "ms", 50, at_least=False))
        memory = anonymous_bytes(mount_processes(mountpoint)) / MIB
        table.add(Row(f"{name}: anonymous memory", memory, "MiB", 300, at_least=False))


def random_writes(table: Table, top: Path, size: int, count: int, *, driver: str) -> None:
    """Random 4 KiB writes over a big file: the last tenth costs what the first did."""
    chooser = random.Random(9)
    data = memoryview(bytearray(chooser.randbytes(CHUNK)))
    with mounted(top / "store", top / "mnt", "--read-write", driver=driver) as mountpoint:
        home = collection_of(mountpoint, "random")
        write_file(home / "f", data, size)
        commit(home)
        fd = os.open(home / "f", os.O_RDWR)
        took = []
        for _ in range(10):
            offsets = [chooser.randrange(size // PAGE) * PAGE for _ in range(count // 10)]
            took.append(timed(lambda offsets=offsets: _write_pages(fd, data[:PAGE], offsets)))  # type: ignore[misc] # bound now
        os.close(fd)
    table.add(Row("random 4 KiB writes: last tenth / first tenth", took[-1] / took[0], "ratio", 2, at_least=False))
    table.add(Row("random 4 KiB writes", count / sum(took), "writes/s"))


def _write_pages(fd: int, page: memoryview, offsets: Sequence[int]) -> None:
    """Write and fsync: the first pages would cost nothing otherwise, where the kernel's cache takes them."""
    for at in offsets:
        os.pwrite(fd, page, at)
    os.fsync(fd)


def page_rewrites(table: Table, top: Path, count: int, *, driver: str) -> None:
    """One page rewritten again and again grows neither store nor memory."""
    page = bytearray(random.Random(10).randbytes(PAGE))
    with mounted(top / "store", top / "mnt", "--read-write", driver=driver) as mountpoint:
        home = collection_of(mountpoint, "page")
        fd = os.open(home / "f", os.O_RDWR | os.O_CREAT)
        for number in range(5000):  # with a commit, so that what is used for the first time is not counted as growth
            os.pwrite(fd, number.to_bytes(8, "little") + page[8:], 0)
            if number == 2500:
                commit(home)
        pids = mount_processes(mountpoint)
        memory, stored = anonymous_bytes(pids), _bytes_below(top / "store")
        for number in range(count):
            os.pwrite(fd, number.to_bytes(8, "little") + page[8:], 0)
        commit(home)
        memory = anonymous_bytes(pids) - memory
        stored = _bytes_below(top / "store") - stored
        os.close(fd)
    table.add(Row("rewrites of one page: growth of the store", stored / MIB, "MiB", 1, at_least=False))
    table.add(Row("rewrites of one page: growth of memory", memory / MIB, "MiB", 1, at_least=False))


def _bytes_below(top: Path) -> int:
    total = 0
    for directory, _, names in os.walk(top):
        for name in names:
            if name != "reserve":
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total


def bounded_memory(table: Table, top: Path, size: int, *, driver: str) -> None:
    """Anonymous memory of all processes of a mount while much streams through it."""
    data = memoryview(bytearray(random.Random(11).randbytes(CHUNK)))
    with mounted(top / "store", top / "mnt", "--read-write", "--memory", "256MiB", driver=driver) as mountpoint:
        home = collection_of(mountpoint, "stream")
        with PeakMemory(mountpoint) as watch:
            write_file(home / "f", data, size)
            commit(home)
            digest = hashlib.md5(usedforsecurity=False)
            with open(home / "f", "rb", buffering=0) as file:
                while part := file.read(CHUNK):
                    digest.update(part)
    table.add(Row("peak anonymous memory, --memory 256MiB", watch.peak / MIB, "MiB", 256 + 150, at_least=False))


def slow_appends(table: Table, top: Path, appends: int, hours: float) -> None:
    """A file that grows by 100 bytes at a time over simulated hours does not fragment."""
    from bench.appends import segments_after

    segments = segments_after(top / "appends", appends, 100, hours * 3600)
    table.add(Row("slow appends: segments of the file", segments, "", 64, at_least=False))


def clean(top: Path) -> None:
    """Room for the next case."""
    for name in ("store", "copy", "source", "appends"):
        path = top / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (top / "store").mkdir()


def prepare(top: Path) -> None:
    """An empty store to begin with; checks that the command works."""
    command("--version")
    (top / "store").mkdir(exist_ok=True)
