"""A judge from outside: fsx does random reads, writes, maps and truncates on a file in a mount: `make posix`.

No threads. Exit code 0 if fsx found nothing, else 1 with what it said; its seed is printed, so it can be repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.mounting import CommandFailed, mounted, workplace


def main(argv: Sequence[str] | None = None) -> int:
    """Run fsx on a mount; the exit code."""
    parser = argparse.ArgumentParser(prog="posix", description="Run fsx on a mount.")
    parser.add_argument("fsx", type=Path, help="the program, from the crate fsx")
    parser.add_argument("--operations", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args(argv)
    config = Path(__file__).with_name("fsx.toml")
    program = [options.fsx.absolute(), "-f", config, "-N", options.operations, "-S", options.seed]
    try:
        with workplace("posix") as top:
            (top / "store").mkdir()
            with mounted(top / "store", top / "mnt", "--read-write") as mountpoint:
                (mountpoint / "home/posix").mkdir()
                command = [*program, "-P", top, mountpoint / "home/posix/file"]
                done = subprocess.run(
                    [str(word) for word in command], capture_output=True, text=True, timeout=3600, check=False
                )
            said = (done.stdout + done.stderr).splitlines()
    except (CommandFailed, OSError, subprocess.SubprocessError) as problem:
        print(f"posix: FAILED: {problem}", file=sys.stderr)
        return 1
    print("\n".join(said[-40:]))
    print(
        f"posix: fsx, {options.operations} operations, seed {options.seed}: {'WRONG' if done.returncode else 'clean'}"
    )
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
