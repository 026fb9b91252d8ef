"""Many small files and a real source tree on every place."""

from __future__ import annotations

from pathlib import Path

from bench import work
from bench.comparison import Comparison, in_turns
from bench.mounting import arvfuse
from bench.run import Run
from bench.subjects import BARE_KERNEL, NATIVE, OURS, Place
from bench.table import Row
from bench.work import timed


def files(run: Run) -> None:
    """20,000 files of 4 KiB, beside native and the bare kernel loop with the same latency setting."""
    count = run.count(20_000)
    with run.compare("files", [run.ours(), *run.ceilings(64)]) as (comparison, places):
        _small_files(run, comparison, places, count)
    comparison.target(run.table, "create 4 KiB", OURS, BARE_KERNEL, 0.4)
    comparison.target(run.table, "stat, cached", OURS, NATIVE, 0.9, beside=BARE_KERNEL)
    comparison.target(run.table, "cold list and stat", OURS, BARE_KERNEL, 0.4)
    comparison.target(run.table, "unlink", OURS, BARE_KERNEL, 0.3)
    late = max(comparison.samples["from the last close to the commit"][OURS])
    run.table.add(Row(f"{count} files: from the last close to the commit", late, "s", 2.0, at_least=False))


def few_files(run: Run) -> None:
    """The same with fewer, on everything there is."""
    with run.compare("few-files", run.all(64)) as (comparison, places):
        _small_files(run, comparison, places, run.count(2000))


def _small_files(run: Run, comparison: Comparison, places: list[Place], count: int) -> None:
    at: dict[str, Path] = {}

    def paths(place: Place) -> list[bytes]:
        return work.names(at[place.name], count)

    def create(place: Place, turn: int) -> None:
        at[place.name] = place.fresh(f"files{turn}")
        made = paths(place)
        comparison.note("create 4 KiB", place, count / timed(lambda: work.create(made)))
        if place.name == OURS:
            mountpoint = place.top.parent
            late = timed(lambda: arvfuse("wait", mountpoint))
            comparison.note("from the last close to the commit", place, late, "s")

    def cached(place: Place, _turn: int) -> None:
        made = paths(place)
        work.stat_each(made)
        comparison.note("stat, cached", place, 5 * count / timed(*[lambda: work.stat_each(made)] * 5))

    def cold(place: Place, _turn: int) -> None:
        place.settle(at[place.name])
        place.cold(at[place.name])
        found = 0

        def look() -> None:
            nonlocal found
            found = work.list_each(at[place.name])

        took = timed(look)
        assert found >= count, f"{place.name}: {found} names of {count}"
        comparison.note("cold list and stat", place, found / took)

    def unlink(place: Place, _turn: int) -> None:
        made = paths(place)
        comparison.note("unlink", place, count / timed(lambda: work.unlink_each(made)))
        place.settle(at[place.name])

    in_turns(places, run.rounds, [create, cached, cached, cached, cold, unlink])


def tree(run: Run) -> None:
    """The interpreter's standard library: untar, find, grep -r."""
    archive = run.top / "library.tar"
    count = work.make_tar(archive, every=min(run.scale, 5))
    with run.compare("tree", run.all(256)) as (comparison, places):
        at: dict[str, Path] = {}

        def untar(place: Place, turn: int) -> None:
            at[place.name] = place.fresh(f"tree{turn}")
            took = timed(lambda: work.untar(archive, at[place.name]))
            comparison.note("untar a source tree", place, count / took, "files/s")
            took += timed(lambda: place.settle(at[place.name]))
            comparison.note("untar a source tree, until stored", place, count / took, "files/s")

        def cold_find(place: Place, _turn: int) -> None:
            place.cold(at[place.name])
            comparison.note("cold find", place, count / timed(lambda: work.find(at[place.name])), "files/s")

        def cold_grep(place: Place, _turn: int) -> None:
            place.cold(at[place.name])
            comparison.note("cold grep -r", place, count / timed(lambda: work.grep(at[place.name])), "files/s")

        def warm_grep(place: Place, _turn: int) -> None:
            comparison.note("warm grep -r", place, count / timed(lambda: work.grep(at[place.name])), "files/s")
            comparison.note("warm find", place, count / timed(lambda: work.find(at[place.name])), "files/s")

        def end(place: Place, _turn: int) -> None:
            place.clear(at[place.name])

        in_turns(places, max(1, run.rounds - 1), [untar, cold_find, cold_grep, warm_grep, end])
    archive.unlink()
