#!/usr/bin/env python3
"""Stress any directory with many processes, and verify every byte that comes back.

Black-box and standard library only: DIR may be a mount of arvfuse or a plain directory. Several DIRs are views
of one place (mounts of one store); the processes are dealt over them. Every 4 KiB page written says who wrote
it, which version it is, of which file, and its check sum, so a wrong byte tells where it came from. With one DIR
a page must be exactly what was written last; with several, two writers of one file may have been parted by a
conflict file, and a page is kept if any of these holds it. A failed run leaves its files where they are.

Threading: none; see bench/fstest/running.py for its processes.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.fstest.pages import BadPage, Page, flip_byte, parse_page
from bench.fstest.running import prepare, remove, run_scenario
from bench.fstest.scenarios import SCENARIOS
from bench.fstest.worker import Interfere, Run, Wrong

__all__ = ["BadPage", "CannotRun", "Page", "flip_byte", "main", "parse_page", "settings"]


class CannotRun(Exception):
    """Nothing was tested: a bad DIR, or one in which nothing can be made."""


def main(argv: Sequence[str] | None = None, *, interfere: Interfere | None = None) -> int:
    """Run the program and return its exit code: 0 clean, 1 something was wrong, 2 could not run.

    *interfere* is called with a file between writing and reading it back (flip_byte is one): the negative control.
    """
    options = _parser().parse_args(argv)
    try:
        run = settings(options, interfere)
        names = options.scenario or list(SCENARIOS)
        print(f"fstest: {run.processes} processes, {run.cycles} cycles, seed {run.seed}, in {run.bases[0]}", flush=True)
        for name in names:
            try:
                prepare(run, name)
                _report(name, run)
            except (Wrong, OSError) as problem:
                print(f"fstest: {name}: WRONG: {problem}", file=sys.stderr)
                print(f"fstest: repeat with: {run.repeat_line(name)}", file=sys.stderr)
                return 1
        if not run.keep:
            remove(run)
    except CannotRun as reason:
        print(f"fstest: {reason}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"fstest: WRONG: removing what was made: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fstest: interrupted; its files are left", file=sys.stderr)
        return 2
    print("fstest: clean")
    return 0


def settings(options: argparse.Namespace, interfere: Interfere | None = None) -> Run:
    """The frozen settings of a run, its directories tried; CannotRun if they do not serve."""
    dirs = tuple(Path(os.path.abspath(name)) for name in options.dirs)
    for directory in dirs:
        if not directory.is_dir():
            raise CannotRun(f"{directory}: not a directory")
    bases = tuple(directory / "home" for directory in dirs) if options.sandbox else dirs
    for base in bases:
        if not base.is_dir():
            raise CannotRun(f"{base}: --sandbox works below home/, and there is none")
    if (options.processes is not None and options.processes < 1) or (options.cycles is not None and options.cycles < 1):
        raise CannotRun("--processes and --cycles count from 1")
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    try:
        name, first_test = _free_names(bases[0], seed)
        (bases[0] / name).mkdir()
    except OSError as error:
        raise CannotRun(f"{bases[0]}: nothing can be made there: {error.strerror}") from None
    return Run(
        dirs=dirs,
        bases=bases,
        name=name,
        seed=seed,
        processes=options.processes or (8 if options.big else 4),
        cycles=options.cycles or (200 if options.big else 10),
        big=options.big,
        keep=options.keep,
        sandbox=options.sandbox,
        interfere=interfere,
        first_test=first_test,
    )


def _free_names(base: Path, seed: int) -> tuple[str, int]:
    """A name for the run's place, and the first number no test<N> has."""
    taken = set(os.listdir(base))
    number = next(n for n in range(len(taken) + 1) if not {f"fstest-{seed}-{n}", f"fstest-{seed}-{n}-other"} & taken)
    tests = [int(match[1]) for name in taken if (match := re.fullmatch(r"test(\d{1,15})", name))]
    return f"fstest-{seed}-{number}", max(tests, default=-1) + 1


def _report(name: str, run: Run) -> None:
    """Run one scenario and print its line."""
    done = run_scenario(run, name)
    mib, seconds = 1 << 20, max(done.seconds, 1e-9)
    print(
        f"{name:15} {run.processes:4} processes {run.cycles * run.processes:6} cycles {done.files:6} files"
        f" {done.wrote / mib:9.1f} MiB written {done.read / mib:9.1f} MiB read {seconds:7.2f} s"
        f" {done.files / seconds:8.0f} files/s {(done.wrote + done.read) / mib / seconds:8.1f} MiB/s",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fstest.py", description="Stress DIR and verify every byte.")
    parser.add_argument("dirs", metavar="DIR", nargs="+", help="where to work; several are views of one place")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="seconds (the default): 4 processes, 10 cycles")
    size.add_argument("--big", action="store_true", help="minutes: 8 processes, 200 cycles, files past 64 MiB")
    parser.add_argument("--processes", type=int, metavar="N")
    parser.add_argument("--cycles", type=int, metavar="N", help="per process")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed does the same operations")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=list(SCENARIOS),
        metavar="NAME",
        help=f"of {', '.join(SCENARIOS)}; repeatable; default: all",
    )
    parser.add_argument("--sandbox", action="store_true", help="work in a place of its own below DIR/home/")
    parser.add_argument("--keep", action="store_true", help="leave the files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
