"""Bytes of big files on every place: written, written anew and read, in order and not, cold and warm.

Writes include fsync and, of this project, the commit. Cold reads begin with a new mount (of the bare loop and of
native: without the pages of the file); what lies behind is in the page cache.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench import work
from bench.comparison import Comparison, Step, in_turns
from bench.memory import supply
from bench.run import Run
from bench.subjects import BARE_KERNEL, LLFUSE, NATIVE, OURS, Place, commit
from bench.table import Row, median_ratio
from bench.work import MIB, PAGE, timed

GIB: Final = 1 << 30
DISK: Final = "disk alone"
"""As many bytes by O_DIRECT and fsync: nothing that is safe on this disk can be faster."""
WARM_PASSES: Final = 3
"""A page's second use moves it to the active list, which costs once; the page cache's speed is that of later ones."""
_MIDDLE: Final = 64 << 10


def data(run: Run) -> None:
    """Sequential, backward, strided and random work of 1 MiB and 4 KiB on everything there is."""
    big, small = run.size(256 * MIB, least=16 * MIB), run.size(48 * MIB, least=8 * MIB)
    touched = run.count(4000)
    with run.compare("data", run.all((big + small) // MIB + 128)) as (comparison, places):
        at: dict[str, Path] = {}
        apart: dict[str, Path] = {}
        where = {"a": at, "b": apart}
        sizes = {"a": big, "b": small}
        tags: dict[tuple[str, str], int] = {}

        def begin(place: Place, turn: int) -> None:
            at[place.name] = place.fresh(f"data{turn}")
            apart[place.name] = place.fresh(f"small{turn}")  # from a file of thousands of scattered pieces

        def write(row: str, name: str, size: int, step: int) -> Step:
            def one(place: Place, _turn: int) -> None:
                directory, tag = where[name][place.name], work.next_tag()
                tags[place.name, name] = tag
                supply(2 * size)
                place.start_cpu()
                took = timed(lambda: work.write(directory / name, size, step, tag), lambda: place.settle(directory))
                comparison.note(row, place, size / MIB / took, "MiB/s")
                _note_cpu(comparison, row, place, size)
                if place.name == NATIVE:
                    alone_s = timed(lambda: work.write_direct(directory / "direct", size))
                    comparison.note(row, DISK, size / MIB / alone_s, "MiB/s")

            return one

        def read(
            row: str, name: str, step: int, offsets: Sequence[int], written: int | None, *, cold: bool, unit: str = ""
        ) -> Step:
            def one(place: Place, _turn: int) -> None:
                directory = where[name][place.name]
                if cold:
                    place.cold(directory)
                    supply(sizes[name])
                place.start_cpu()
                tag = tags[place.name, name] if written == step else None
                took = timed(lambda: work.read(directory / name, offsets, step, tag))
                moved = len(offsets) if unit else len(offsets) * step / MIB
                comparison.note(row, place, moved / took, unit or "MiB/s")
                if cold and not unit:
                    _note_cpu(comparison, row, place, len(offsets) * step)

            return one

        def scattered_write(place: Place, turn: int) -> None:
            directory, offsets = at[place.name], work.scattered(big, PAGE, touched, turn)
            tag = work.next_tag()
            took = timed(
                lambda: work.write_at(directory / "a", big, offsets, PAGE, tag), lambda: place.settle(directory)
            )
            comparison.note("random write 4 KiB", place, touched / took)

        def end(place: Place, _turn: int) -> None:
            place.clear(at[place.name])
            place.clear(apart[place.name])

        in_turns(
            places,
            run.rounds,
            [
                begin,
                write("write 1 MiB", "a", big, MIB),
                write("rewrite 1 MiB", "a", big, MIB),
                read("cold read 1 MiB", "a", MIB, work.forward(big, MIB), MIB, cold=True),
                read("warm read 1 MiB", "a", MIB, work.forward(big, MIB) * WARM_PASSES, MIB, cold=False),
                read("warm read 4 KiB", "a", PAGE, work.forward(big, PAGE), None, cold=False),
                read("cold backward read 64 KiB", "a", _MIDDLE, work.backward(big, _MIDDLE), None, cold=True),
                read("cold stride read 64 KiB", "a", _MIDDLE, work.stride(big, _MIDDLE), None, cold=True),
                read(
                    "cold random read 4 KiB", "a", PAGE, work.scattered(big, PAGE, touched), None, cold=True, unit="/s"
                ),
                scattered_write,
                write("write 4 KiB", "b", small, PAGE),
                write("rewrite 4 KiB", "b", small, PAGE),
                read("cold read 4 KiB", "b", PAGE, work.forward(small, PAGE), PAGE, cold=True),
                end,
            ],
        )
    comparison.target(run.table, "write 4 KiB", OURS, LLFUSE, 5)
    comparison.target(run.table, "write 4 KiB", OURS, BARE_KERNEL, 0.5, beside=DISK)
    comparison.target(run.table, "cold read 1 MiB", OURS, LLFUSE, 2)
    comparison.target(run.table, "cold read 1 MiB", OURS, BARE_KERNEL, 0.5)
    for row in ("warm read 1 MiB", "warm read 4 KiB"):
        comparison.target(run.table, row, OURS, NATIVE, 0.9, beside=BARE_KERNEL)


def _note_cpu(comparison: Comparison, row: str, place: Place, size: int) -> None:
    if place.processes():
        comparison.note(f"{row}, CPU", place, place.used_cpu_s() * GIB / size, "s/GiB")


def big(run: Run) -> None:
    """1 GiB written and written anew by dd, hashed, stored and committed, beside dd to native and md5sum."""
    size = run.size(GIB)
    sources = [run.top / "source0", run.top / "source1"]
    whole: dict[str, list[float]] = {"first": [], "again": []}
    plain: list[float] = []
    target = run.top / "copy"
    with run.compare("big", [run.ours()]) as (comparison, (place,)):
        for turn in range(run.rounds):
            for source in sources:
                work.write(source, size, MIB, work.next_tag())
            directory = place.fresh(f"big{turn}")
            supply(size)
            native_s = timed(lambda: _dd(sources[0], target), lambda: _md5sum(target))
            supply(2 * size)
            place.start_cpu()
            first_s = timed(*_copied(sources[0], directory))
            cpu_s = place.used_cpu_s()
            supply(2 * size)
            again_s = timed(*_copied(sources[1], directory))
            target.unlink()
            comparison.note("dd 1 MiB, committed", place, size / MIB / first_s, "MiB/s")
            comparison.note("dd 1 MiB, committed, CPU", place, cpu_s * GIB / size, "s/GiB")
            comparison.note("dd 1 MiB anew, committed", place, size / MIB / again_s, "MiB/s")
            comparison.note("dd 1 MiB, committed", "native + md5sum", size / MIB / native_s, "MiB/s")
            plain.append(native_s)
            whole["first"].append(first_s)
            whole["again"].append(again_s)
    for source in sources:
        source.unlink()
    run.table.add(Row("1 GiB written / dd conv=fsync + md5sum", median_ratio(plain, whole["first"]), "rate", 1.0))
    ratio = median_ratio(whole["again"], plain)
    run.table.add(Row("1 GiB rewritten / dd conv=fsync + md5sum", ratio, "time", 1.1, at_least=False))


def _copied(source: Path, collection: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: _dd(source, collection / "f"), lambda: commit(collection)


def _dd(source: Path, target: Path) -> None:
    words = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=notrunc,fsync", "status=none"]
    subprocess.run(words, check=True)


def _md5sum(path: Path) -> None:
    subprocess.run(["md5sum", str(path)], check=True, stdout=subprocess.DEVNULL)


def crowd(run: Run) -> None:
    """1, 2 and 4 writers and readers, in one collection and in separate ones: the sum must not fall."""
    size = run.size(256 * MIB, least=16 * MIB)
    crowds = (1, 2, 4)
    with run.compare("crowd", [run.ours(), *run.ceilings(2 * size // MIB + 512)]) as (comparison, places):

        def several(count: int, apart: bool) -> Step:
            where = "separate" if apart else "one"
            each = size // count // MIB * MIB

            def one(place: Place, turn: int) -> None:
                made = [place.fresh(f"{where}{count}-{turn}-{number}") for number in range(count if apart else 1)]
                files = [made[number % len(made)] / f"f{number}" for number in range(count)]
                tags = [work.next_tag() for _ in files]
                jobs = [_writing(path, each, tag) for path, tag in zip(files, tags, strict=True)]
                supply(2 * size)
                settling = [partial(place.settle, directory) for directory in made]
                took = timed(lambda: work.together(jobs), lambda: work.together(settling))
                comparison.note(f"{count} writers, {where}", place, count * each / MIB / took, "MiB/s")
                place.cold(*made)
                supply(size)
                jobs = [_reading(path, each, tag) for path, tag in zip(files, tags, strict=True)]
                took = work.together(jobs)
                comparison.note(f"{count} readers, {where}", place, count * each / MIB / took, "MiB/s")
                for directory in made:
                    place.clear(directory)

            return one

        in_turns(places, run.rounds, [several(count, apart) for apart in (False, True) for count in crowds])
    for kind in ("writers", "readers"):
        for where in ("one", "separate"):
            row = f"4 {kind}, {where}"
            comparison.target(run.table, row, OURS, OURS, 0.9, their_row=f"1 {kind}, {where}")


def _writing(path: Path, size: int, tag: int) -> Callable[[], None]:
    return lambda: work.write(path, size, MIB, tag)


def _reading(path: Path, size: int, tag: int) -> Callable[[], None]:
    return lambda: work.read(path, work.forward(size, MIB), MIB, tag)


def busy(run: Run) -> None:
    """Small files and big writes while two processes only compute."""
    size, files = run.size(128 * MIB, least=16 * MIB), run.count(2000)
    with run.compare("busy", [run.ours(), *run.ceilings(size // MIB + 128)]) as (comparison, places):

        def small(place: Place, turn: int) -> None:
            paths = work.names(place.fresh(f"small{turn}"), files)
            comparison.note("two busy cores: create 4 KiB", place, files / timed(lambda: work.create(paths)))
            comparison.note("two busy cores: unlink", place, files / timed(lambda: work.unlink_each(paths)))

        def large(place: Place, turn: int) -> None:
            directory = place.fresh(f"large{turn}")
            tag = work.next_tag()
            took = timed(lambda: work.write(directory / "f", size, MIB, tag), lambda: place.settle(directory))
            comparison.note("two busy cores: write 1 MiB", place, size / MIB / took, "MiB/s")
            place.clear(directory)

        with work.busy_cores(2):
            in_turns(places, run.rounds, [small, large])
