"""`python -m bench [CASE]...`: every target of speed and size in one table; exit code 1 if one was missed.

All cases run on the embedded store, in a directory of their own (TMPDIR), with the driver that a user gets or that
``--driver`` names; comparisons also with llfuse, with the bare loops and with other file systems that are installed.
``--quick`` does a tenth of the work, to see that the programs run: its figures say little.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import arvfuse
from bench import cases, data_cases, file_cases, peers, service_cases
from bench.bare_transport import LATENCIES
from bench.mounting import CommandFailed, offers, workplace
from bench.run import Run
from bench.table import Row, Table

GIB = 1 << 30


def known_cases(run: Run) -> Mapping[str, Callable[[], None]]:
    """Every case by name, in the order in which they run."""
    scale, table, top = run.scale, run.table, run.top
    driver = run.driver

    def alone(case: Callable[..., None], *amounts: int) -> Callable[[], None]:
        def one() -> None:
            case(table, top, *amounts, driver=driver)
            cases.clean(top)

        return one

    return {
        "start": partial(service_cases.start, run),
        "idle": partial(service_cases.idle, run),
        "big": partial(data_cases.big, run),
        "data": partial(data_cases.data, run),
        "files": partial(file_cases.files, run),
        "few-files": partial(file_cases.few_files, run),
        "tree": partial(file_cases.tree, run),
        "crowd": partial(data_cases.crowd, run),
        "busy": partial(data_cases.busy, run),
        "fio": partial(service_cases.fio, run),
        "ahead": partial(service_cases.ahead, run),
        "sequential": alone(cases.sequential_write, GIB // scale),
        "small": alone(cases.small_files, 20_000 // scale),
        "many": alone(cases.many_files, 1000, 1000 // scale),
        "directory": alone(cases.one_directory, 1_000_000 // scale),
        "random": alone(cases.random_writes, GIB // scale, 100_000 // scale),
        "page": alone(cases.page_rewrites, 50_000 // scale),
        "memory": alone(cases.bounded_memory, 4 * GIB // scale),
        "appends": lambda: cases.slow_appends(table, top, 100_000 // scale, 10 / scale),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases named, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("case", nargs="*", help="only these")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="the same, once for each")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--driver", default="auto", help="auto (default), kernel or llfuse")
    parser.add_argument(
        "--latency",
        choices=LATENCIES,
        default="auto",
        help="how the bare kernel loop and the kernel driver wait for requests",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="samples of each row and place (3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, once")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write all samples there, for bench.report")
    parser.add_argument("--dir", type=Path, help="where to work")
    options = parser.parse_args(argv)
    scale = 10 if options.quick else 1
    rounds = 1 if options.quick else options.rounds
    table = Table()
    try:
        with workplace("bench", needs_bytes=16 * GIB // scale, parent=options.dir) as top:
            run = Run(table, top, driver=options.driver, scale=scale, rounds=max(1, rounds), latency=options.latency)
            known = known_cases(run)
            if options.list:
                print("\n".join(known))
                return 0
            chosen = [*options.case, *options.only] or list(known)
            for name in chosen:
                if name not in known:
                    parser.error(f"no case {name!r}; there are: {', '.join(known)}")
            _prepare(run)
            for name in chosen:
                began = time.monotonic()
                try:
                    known[name]()
                except (CommandFailed, OSError, AssertionError, subprocess.SubprocessError) as problem:
                    table.add(Row(f"case {name} ran to its end", 0, "", 1, note=f"{problem!r}"))
                    cases.clean(top)
                print(f"-- {name}: {time.monotonic() - began:.0f} s", flush=True)
            service_cases.ahead_of_peers(table, run.comparisons, list(peers.PROGRAMS))
    except CommandFailed as problem:
        print(f"bench: FAILED: {problem}", file=sys.stderr)
        return 1
    missed = table.failed()
    if options.results is not None:
        options.results.write_text(json.dumps(_results(run, options.quick)))
    for row in missed:
        print(f"missed: {row.name}")
    print(f"{len(table.rows)} rows, {len(missed)} missed")
    return 1 if missed else 0


def _prepare(run: Run) -> None:
    """An empty store for the cases that have one together; what the drivers are. Bytecode is made first, as an
    installation makes it: an environment may forbid it to programs."""
    compileall.compile_dir(Path(arvfuse.__file__).parent, quiet=1)
    cases.prepare(run.top)
    kernel, llfuse = offers("kernel", run.top), offers("llfuse", run.top)
    resolved = {"auto": "kernel" if kernel else "llfuse"}.get(run.driver, run.driver)
    if not offers(run.driver, run.top):
        raise CommandFailed(f"--driver {run.driver} does not mount here")
    run.llfuse = llfuse and resolved != "llfuse"
    print(f"driver {run.driver}" + ("" if kernel else "; a kernel driver is not offered here, so this is llfuse"))
    if line := peers.present()[1]:
        print(line)


def _results(run: Run, quick: bool) -> dict[str, object]:
    return {
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}",
        "driver": run.driver,
        "quick": quick,
        "targets": [
            {"name": row.name, "value": row.value, "unit": row.unit, "target": row.target, "at_least": row.at_least,
             "met": row.met, "note": row.note}
            for row in run.table.rows if row.target is not None
        ],
        "comparisons": [comparison.as_data() for comparison in run.comparisons],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
