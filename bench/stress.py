"""The stress program at full size, on a mount and on a plain directory: `make stress`.

No threads. Runs every scenario big on both, then 200 processes in one directory of a mount; exit code 0 if all of
them were clean, else 1. fstest prints the line that repeats a failure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.mounting import CommandFailed, mounted, workplace

PROGRAM: Final = Path(__file__).resolve().parents[1] / "fstest.py"
CROWD: Final = ("--big", "--processes", "200", "--cycles", "20", "--scenario", "same-directory")


def fstest(*arguments: str | Path) -> bool:
    """Run the stress program; whether it was clean."""
    return subprocess.run([sys.executable, str(PROGRAM), *map(str, arguments)], check=False).returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run all of it; the exit code."""
    parser = argparse.ArgumentParser(prog="stress", description="Stress a mount and a plain directory.")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args(argv)
    seed = ("--seed", str(options.seed))
    try:
        with workplace("stress", needs_bytes=8 << 30) as top:
            (top / "store").mkdir()
            (top / "plain").mkdir()
            clean = [fstest(top / "plain", "--big", *seed)]
            with mounted(top / "store", top / "mnt", "--read-write") as mountpoint:
                clean.append(fstest(mountpoint, "--sandbox", "--big", *seed))
                clean.append(fstest(mountpoint, "--sandbox", *CROWD, *seed))
    except (CommandFailed, OSError) as problem:
        print(f"stress: FAILED: {problem}", file=sys.stderr)
        return 1
    print("stress: clean" if all(clean) else "stress: WRONG")
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
