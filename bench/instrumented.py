"""The `arvfuse` command with a slower store or with stop-watches, for measurements only.

`python -m bench.instrumented [--rate FILE] [--timings FILE] COMMAND...`: public methods of the classes that a mount is
built of are replaced before the command runs, and its forked processes inherit that. Nothing is paid by a mount that
was not started so. ``--rate``: puts of the store take as long as FILE says in MiB/s, and so do its reads, each
direction for itself; without the file nothing is slowed. ``--timings``: when the engine ends, FILE gets a JSON object:
operation -> [count, ns in Operations, ns of these in the log, ns of the reply's system call, ns around them].

Threading: times are kept by thread and added up under a lock. Failure: that of the command.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20
_STEP_S: Final = 0.05
OPERATIONS: Final = (
    "access", "create", "flush", "forget", "fsync", "fsyncdir", "getattr", "lookup", "mkdir", "mknod", "open",
    "opendir", "read", "readdir", "release", "releasedir", "rename", "rmdir", "setattr", "statfs", "unlink", "write",
)  # fmt: skip


class Throttle:
    """One direction of a slow way: bytes pass one after the other."""

    def __init__(self, rate_file: Path) -> None:
        self._rate_file: Final = rate_file
        self._lock: Final = threading.Lock()
        self._free_at = 0.0  # guarded by: _lock

    def take(self, size: int) -> None:
        """Return when *size* bytes have passed."""
        rate = self._rate()
        if not rate:
            return
        with self._lock:
            done = self._free_at = max(time.monotonic(), self._free_at) + size / rate
        while (left := done - time.monotonic()) > 0 and self._rate():
            time.sleep(min(left, _STEP_S))

    def _rate(self) -> float:
        try:
            return float(self._rate_file.read_text()) * MIB
        except (FileNotFoundError, ValueError):
            return 0.0


def slow_down(store: Any, rate_file: Path) -> None:
    """Give the class *store* the rate that the file says."""
    writes, reads = Throttle(rate_file), Throttle(rate_file)
    real_put, real_adopt, real_fetch = store.put, store.adopt, store.fetch_range

    def put(self: Any, data: bytes | memoryview) -> str:
        writes.take(len(data))
        return str(real_put(self, data))

    def adopt(self: Any, path: Path, digest: str, size: int, checks: bytes) -> str:
        writes.take(size)
        return str(real_adopt(self, path, digest, size, checks))

    def fetch_range(self: Any, locator: str, start: int, length: int) -> Any:
        reads.take(length)
        return real_fetch(self, locator, start, length)

    store.put, store.adopt, store.fetch_range = put, adopt, fetch_range


class _Here(threading.local):
    """What this thread does now. Times are nanoseconds."""

    def __init__(self) -> None:
        self.inside = False
        self.log = 0
        self.last: list[int] | None = None  # the operation that waits for its reply
        self.spent = 0  # in Operations since the request was read
        self.came = 0


class StopWatch:
    """Adds up where the time of requests goes."""

    def __init__(self) -> None:
        self._here: Final = _Here()
        self._lock: Final = threading.Lock()
        self._all: list[dict[str, list[int]]] = []  # guarded by: _lock; each dict belongs to one thread
        self._mine: Final = threading.local()

    def watch_operations(self, operations: Any, names: Iterable[str] = OPERATIONS) -> None:
        """Time the methods of the class."""
        for name in names:
            setattr(operations, name, self._operation(name, getattr(operations, name)))

    def watch_log(self, log: Any) -> None:
        """Time LogWriter.flush, which writes what is queued or waits for who does."""
        real, here = log.flush, self._here

        def flush(watched: Any, seq: int) -> None:
            start = time.perf_counter_ns()
            try:
                real(watched, seq)
            finally:
                here.log += time.perf_counter_ns() - start

        log.flush = flush

    def watch_calls(self, module: Any) -> None:
        """Time the system calls by which a driver of ours takes requests and replies (those of llfuse are in C)."""
        for name in ("read", "readv"):
            setattr(module, name, self._taking(getattr(module, name)))
        for name in ("write", "writev"):
            setattr(module, name, self._replying(getattr(module, name)))

    def write(self, path: Path) -> None:
        """The sums of all threads."""
        sums: dict[str, list[int]] = {}
        with self._lock:
            for table in self._all:
                for name, row in table.items():
                    sums[name] = [a + b for a, b in zip(sums.get(name, [0] * 5), row, strict=True)]
        path.write_text(json.dumps(sums))

    def _operation(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        here = self._here

        @functools.wraps(real)
        def watched(*args: Any, **named: Any) -> Any:
            if here.inside:  # one operation that uses another
                return real(*args, **named)
            here.inside, here.log = True, 0
            start = time.perf_counter_ns()
            try:
                return real(*args, **named)
            finally:
                took = time.perf_counter_ns() - start
                here.inside = False
                row = self._row(name)
                row[0] += 1
                row[1] += took
                row[2] += here.log
                here.spent += took
                here.last = row

        return watched

    def _taking(self, real: Callable[..., Any]) -> Callable[..., Any]:
        here = self._here

        @functools.wraps(real)
        def take(*args: Any) -> Any:
            if here.inside:
                return real(*args)
            here.last = None  # also when there is nothing to read: what is written next is no reply
            got = real(*args)
            here.spent, here.came = 0, time.perf_counter_ns()
            return got

        return take

    def _replying(self, real: Callable[..., Any]) -> Callable[..., Any]:
        here = self._here

        @functools.wraps(real)
        def reply(*args: Any) -> Any:
            row = here.last
            if here.inside or row is None:
                return real(*args)
            start = time.perf_counter_ns()
            try:
                return real(*args)
            finally:
                row[3] += time.perf_counter_ns() - start
                row[4] += start - here.came - here.spent
                here.last = None

        return reply

    def _row(self, name: str) -> list[int]:
        table: dict[str, list[int]] | None = getattr(self._mine, "table", None)
        if table is None:
            table = self._mine.table = {}
            with self._lock:
                self._all.append(table)
        return table.setdefault(name, [0] * 5)


def _start_watches(timings: Path) -> None:
    watch = StopWatch()
    watch.watch_calls(os)  # before anything takes a reference to them
    from arvfuse.operations import Operations
    from arvfuse.sdk.log import LogWriter
    from arvfuse.supervisor.engine import EngineProcess

    watch.watch_operations(Operations)
    watch.watch_log(LogWriter)
    engine: Any = EngineProcess
    real = engine.run

    def run(process: Any) -> int:
        try:
            return int(real(process))
        finally:
            watch.write(timings)

    engine.run = run


def main(argv: Sequence[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="instrumented")
    parser.add_argument("--rate", type=Path, metavar="FILE")
    parser.add_argument("--timings", type=Path, metavar="FILE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    if options.timings is not None:
        _start_watches(options.timings)
    if options.rate is not None:
        from arvfuse.stores.localdir import LocalDir

        slow_down(LocalDir, options.rate)
    from arvfuse.cli.main import main as command

    return command(options.command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
