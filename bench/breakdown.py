"""Where the microseconds of a request go: `python -m bench.breakdown [--driver D]`.

Mounts an embedded store with stop-watches (see `bench/instrumented.py`), does small-file work, big and small writes
and reads, and prints a table by operation: how many, and the mean time in Operations, of that in the log, of the
reply's system call, and around them in the driver. The stop-watches themselves cost about a microsecond a request;
with llfuse, driver and reply are in C and not seen. No threads.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import work
from bench.mounting import CommandFailed, arvfuse, detach, workplace
from bench.subjects import commit, served
from bench.work import MIB, PAGE, timed


@contextmanager
def instrumented(top: Path, *options: str, rate: Path | None = None, timings: Path | None = None) -> Iterator[Path]:
    """A mount of ``top/store`` at ``top/mnt`` by the instrumented command, for a block; leaving it commits."""
    words = [sys.executable, "-m", "bench.instrumented"]
    words += ["--rate", str(rate)] if rate is not None else []
    words += ["--timings", str(timings)] if timings is not None else []
    words += ["mount", "--foreground", "--read-write", *options, "--store", str(top / "store")]
    with served(words, top / "mnt") as (mountpoint, server):
        try:
            _await_ready(mountpoint)
            yield mountpoint
            arvfuse("unmount", mountpoint)
            server.wait(60)
        except BaseException:
            detach(mountpoint)
            raise


def _await_ready(mountpoint: Path) -> None:
    """Mounted is not yet answering: a look into it returns when it does."""
    list(mountpoint.iterdir())


def breakdown(top: Path, driver: str, files: int, size: int) -> dict[str, list[int]]:
    """Do the work and give the sums: operation -> [count, Operations, log, reply, around], nanoseconds."""
    timings = top / "timings"
    with instrumented(top, "--driver", driver, timings=timings) as mountpoint:
        collection = mountpoint / "home" / "breakdown"
        collection.mkdir()
        paths = work.names(collection, files)
        tag = work.next_tag()
        for what, seconds, count in (
            ("create, write 4 KiB, close", timed(lambda: work.create(paths)), files),
            ("stat", timed(lambda: work.stat_each(paths)), files),
            ("list and stat", timed(lambda: work.list_each(collection)), files),
            ("unlink", timed(lambda: work.unlink_each(paths)), files),
            ("write 1 MiB", timed(lambda: work.write(collection / "big", size, MIB, tag)), size // MIB),
            ("write 4 KiB", timed(lambda: work.write(collection / "small", size // 4, PAGE, tag)), size // 4 // PAGE),
        ):
            print(f"{what:<28} {seconds / count * 1e6:>9.1f} us each, as its user sees it")
        commit(collection)
    with instrumented(_fresh(top), "--driver", driver, timings=top / "timings-read") as mountpoint:
        big = mountpoint / "home" / "breakdown" / "big"
        seconds = timed(lambda: work.read(big, work.forward(size, MIB), MIB, tag))
        print(f"{'read 1 MiB, cold':<28} {seconds / (size // MIB) * 1e6:>9.1f} us each, as its user sees it")
    sums: dict[str, list[int]] = json.loads(timings.read_text())
    for name, row in json.loads((top / "timings-read").read_text()).items():
        sums[name] = [a + b for a, b in zip(sums.get(name, [0] * 5), row, strict=True)]
    return sums


def _fresh(top: Path) -> Path:
    (top / "mnt").rmdir()
    return top


def table(sums: dict[str, list[int]]) -> str:
    """Means in microseconds, the most expensive operation first."""
    lines = [
        f"{'operation':<12} {'count':>8} {'Operations':>11} {'of it log':>10} {'reply':>8} {'driver':>8} {'total':>9}"
    ]
    for name, (count, spent, log, reply, around) in sorted(sums.items(), key=lambda item: -sum(item[1][1:])):
        mean = [each / count / 1000 for each in (spent, log, reply, around)]
        total = (spent + reply + around) / 1e6
        lines.append(
            f"{name:<12} {count:>8} {mean[0]:>11.1f} {mean[1]:>10.1f} {mean[2]:>8.1f} {mean[3]:>8.1f} {total:>6.0f} ms"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(prog="breakdown", description="Where the microseconds of a request go.")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--files", type=int, default=5000, metavar="N")
    parser.add_argument("--size", type=int, default=256, metavar="MIB")
    parser.add_argument("--dir", type=Path, help="where to work")
    options = parser.parse_args(argv)
    try:
        with workplace("breakdown", needs_bytes=4 * options.size * MIB, parent=options.dir) as top:
            sums = breakdown(top, options.driver, options.files, options.size * MIB)
    except CommandFailed as problem:
        print(f"breakdown: FAILED: {problem}", file=sys.stderr)
        return 1
    print(f"\nmean microseconds by operation, driver {options.driver}:")
    print(table(sums))
    return 0


if __name__ == "__main__":
    sys.exit(main())
