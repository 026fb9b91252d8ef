"""What a mount costs besides the work: its start, its idleness, and others' reads while one writer is far ahead."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Final

import arvfuse as arvfuse_package
from arvfuse.errors import NotSupported
from bench import work
from bench.breakdown import instrumented
from bench.comparison import Comparison, in_turns
from bench.mounting import arvfuse
from bench.processes import mount_processes, running_seconds
from bench.run import Run
from bench.subjects import OURS, Place, commit
from bench.table import Row, Table
from bench.work import MIB, PAGE, timed

STORE_RATE_MIB_S: Final = 24
KERNELS_OWN: Final = frozenset({"stat, cached", "warm read 1 MiB", "warm read 4 KiB"})
"""Rows in which the kernel's caches answer for every file system alike: there, EVEN is not behind."""
EVEN: Final = 0.9
_PAUSE_S: Final = 0.02
_SPOOL: Final = "256MiB"


def start(run: Run) -> None:
    """From the command to a mount that answers, and its end."""
    ready, ended = [], []
    store, mountpoint = run.top / "start-store", run.top / "start-mnt"
    mountpoint.mkdir()
    options = ("--read-write", "--driver", run.driver, "--store", store, mountpoint)
    arvfuse("mount", *options)
    work.create(work.names(_collection(mountpoint), 100))
    arvfuse("unmount", mountpoint)
    for _ in range(max(3, 9 // run.scale)):
        ready.append(timed(lambda: arvfuse("mount", *options), lambda: os.listdir(mountpoint)))
        ended.append(timed(lambda: arvfuse("unmount", mountpoint)))
    note = f"{min(ready) * 1000:.0f} to {max(ready) * 1000:.0f}"
    median = statistics.median(ready) * 1000
    run.table.add(Row("mount ready, from a cold command", median, "ms", 250, at_least=False, note=note))
    run.table.add(Row("unmount", statistics.median(ended) * 1000, "ms"))
    _further_mounts(run, store)
    comparison = Comparison("start")
    for value in ready:
        comparison.note("mount ready", OURS, value * 1000, "ms")
    run.comparisons.append(comparison)
    shutil.rmtree(store)
    mountpoint.rmdir()


def _further_mounts(run: Run, store: Path) -> None:
    """One more mount of an engine that runs, as a program asks for it: until it is answered."""
    places = [run.top / f"further{number}" for number in range(max(5, 50 // run.scale))]
    took = []
    try:
        with arvfuse_package.Mount(store=store, options={"driver": run.driver}) as mount:
            for place in places:
                place.mkdir()
                took.append(timed(partial(mount.add, place)))
    except NotSupported as problem:
        print(f"not measured: a further mount of a running engine: {problem}", flush=True)
        return
    note = f"{min(took) * 1000:.1f} to {max(took) * 1000:.1f}"
    median = statistics.median(took) * 1000
    run.table.add(Row("a further mount of a running engine", median, "ms", 5, at_least=False, note=note))


def _collection(mountpoint: Path) -> Path:
    path = mountpoint / "home" / "start"
    path.mkdir()
    return path


def idle(run: Run) -> None:
    """CPU time of all processes of a mount that nobody uses, after it was used."""
    seconds = max(5.0, 15 / run.scale)
    with run.ours().run(_directory(run, "idle")) as place:
        collection = place.fresh("idle")
        work.create(work.names(collection, 200))
        commit(collection)
        time.sleep(10)  # for some seconds after a write the catalog is looked at four times a second
        pids = mount_processes(place.top.parent)
        before = running_seconds(pids)
        time.sleep(seconds)
        used = running_seconds(pids) - before
    run.table.add(Row("idle mount, of one core", used / seconds * 100, "%", 0.1, at_least=False))


def ahead(run: Run) -> None:
    """Reads of other files while one writer is ahead of a store of 24 MiB/s, its spool full most of the time."""
    top = _directory(run, "ahead")
    rate = top / "rate"
    others, seconds = run.count(600), max(6.0, 20 / run.scale)
    store_others(top, run.driver, others)
    with instrumented(top, "--driver", run.driver, "--spool-bytes", _SPOOL, rate=rate) as mountpoint:
        rate.write_text(str(STORE_RATE_MIB_S))
        target = mountpoint / "home" / "ahead"
        target.mkdir()
        writer = subprocess.Popen(
            ["dd", "if=/dev/urandom", f"of={target / 'big'}", "bs=1M", "count=100000", "status=none"]
        )
        try:
            time.sleep(2)
            took = _latencies(mountpoint / "home" / "others", others, seconds)
            written = (target / "big").stat().st_size
        finally:
            writer.kill()
            writer.wait()
            rate.unlink()
    note = f"{len(took)} reads, 99 % within {sorted(took)[len(took) * 99 // 100] * 1000:.1f} ms, {written >> 20} MiB"
    median = statistics.median(took) * 1000
    name = "another's read, writer ahead of a store of 24 MiB/s"
    run.table.add(Row(f"{name}: median", median, "ms", 50, at_least=False, note=note))
    run.table.add(Row(f"{name}: worst", max(took), "s", 1, at_least=False))
    shutil.rmtree(top)


def store_others(top: Path, driver: str, count: int) -> None:
    """A collection `others` of files of 64 KiB in the store ``top/store``, for reads that nothing has cached."""
    with instrumented(top, "--driver", driver) as mountpoint:
        collection = mountpoint / "home" / "others"
        collection.mkdir()
        work.create(work.names(collection, count), 16 * PAGE)
        commit(collection)
    (top / "mnt").rmdir()


def _latencies(directory: Path, count: int, seconds: float) -> list[float]:
    """Seconds of each open, read, close of a file, one every _PAUSE_S, each file once as long as there are any."""
    took: list[float] = []
    until = time.monotonic() + seconds
    for path in work.names(directory, count):
        if time.monotonic() > until:
            break
        took.append(timed(partial(Path(os.fsdecode(path)).read_bytes)))
        time.sleep(_PAUSE_S)
    return took


def _directory(run: Run, name: str) -> Path:
    path = run.top / name
    path.mkdir()
    return path


def fio(run: Run) -> None:
    """The record sizes of this field's usual runs: 4 KiB writes and 128 KiB reads, one process and four."""
    if shutil.which("fio") is None:
        print("not measured, not installed here: fio (`make bench-tools`)", flush=True)
        return
    shapes = (("-s512m -l1 -u1", run.size(512 * MIB), 1), ("-s128m -l4 -u4", run.size(128 * MIB), 4))
    preallocate = max(size * jobs for _, size, jobs in shapes) // MIB + 64 * 5
    with run.compare("fio", [run.ours(), *run.ceilings(preallocate)]) as (comparison, places):
        for shape, size, jobs in shapes:

            def both(place: Place, turn: int, shape: str = shape, size: int = size, jobs: int = jobs) -> None:
                directory = place.fresh(f"fio{jobs}-{turn}")
                words = [f"--directory={directory}", f"--size={size}", f"--numjobs={jobs}"]
                took = _fio("write", "4k", *words, "--end_fsync=1")
                comparison.note(f"fio {shape}, 4 KiB writes", place, took, "MiB/s")
                place.settle(directory)
                place.cold(directory)
                comparison.note(f"fio {shape}, 128 KiB reads", place, _fio("read", "128k", *words), "MiB/s")
                place.clear(directory)

            in_turns(places, max(1, run.rounds - 1), [both])


def _fio(kind: str, block: str, *words: str) -> float:
    """MiB/s as fio says it."""
    common = ["fio", "--name=run", f"--rw={kind}", f"--bs={block}", "--ioengine=psync", "--group_reporting"]
    done = subprocess.run([*common, *words, "--output-format=json"], capture_output=True, text=True, check=True)
    text = done.stdout
    said = json.loads(text[text.index("{") :])
    return float(said["jobs"][0][kind]["bw_bytes"]) / MIB


def ahead_of_peers(table: Table, comparisons: list[Comparison], peers: list[str]) -> None:
    """For every peer, the rows in which it was faster than this project; there should be none."""
    for peer in peers:
        ratios: dict[str, float] = {}
        for comparison in comparisons:
            ratios.update(comparison.ratios(OURS, peer))
        if ratios:
            behind = {row: ratio for row, ratio in ratios.items() if ratio < (EVEN if row in KERNELS_OWN else 1)}
            note = f"of {len(ratios)}: " + ", ".join(f"{row} {ratio:.2f}" for row, ratio in behind.items())
            table.add(Row(f"rows behind {peer}", len(behind), "rows", 0, at_least=False, note=note))
