"""`python -m bench [CASE]...`: every target of speed and size in one table; exit code 1 if one was missed.

All cases run on the embedded store through the llfuse driver, in a directory of their own (TMPDIR). ``--quick`` does a
tenth of the work, to see that the programs run: its figures say little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import cases
from bench.mounting import CommandFailed, workplace
from bench.table import Table

GIB = 1 << 30


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases named, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("case", nargs="*", help="only these")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--dir", type=Path, help="where to work")
    options = parser.parse_args(argv)
    scale = 10 if options.quick else 1
    known: Mapping[str, Callable[[Table, Path], None]] = {
        "sequential": lambda table, top: cases.sequential_write(table, top, GIB // scale),
        "small": lambda table, top: cases.small_files(table, top, 20_000 // scale),
        "many": lambda table, top: cases.many_files(table, top, 1000, 1000 // scale),
        "directory": lambda table, top: cases.one_directory(table, top, 1_000_000 // scale),
        "random": lambda table, top: cases.random_writes(table, top, GIB // scale, 100_000 // scale),
        "page": lambda table, top: cases.page_rewrites(table, top, 50_000 // scale),
        "memory": lambda table, top: cases.bounded_memory(table, top, 4 * GIB // scale),
        "appends": lambda table, top: cases.slow_appends(table, top, 100_000 // scale, 10 / scale),
    }
    chosen = options.case or list(known)
    for name in chosen:
        if name not in known:
            parser.error(f"no case {name!r}; there are: {', '.join(known)}")
    table = Table()
    try:
        with workplace("bench", needs_bytes=12 * GIB // scale, parent=options.dir) as top:
            cases.prepare(top)
            for name in chosen:
                known[name](table, top)
                cases.clean(top)
    except CommandFailed as problem:
        print(f"bench: FAILED: {problem}", file=sys.stderr)
        return 1
    missed = table.failed()
    print(f"{len(table.rows)} rows, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
