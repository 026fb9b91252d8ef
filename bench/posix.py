"""A judge from outside: fsx does random reads, writes, maps and truncates on a file in a mount: `make posix`.

Once with the kernel's write-back cache, where the driver has it, and once without. No threads. Exit code 0 if fsx found
nothing, else 1 with what it said; its seed is printed, so it can be repeated.
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
    parser.add_argument("--driver", default="auto", help="auto (default), kernel or llfuse")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args(argv)
    program = [options.fsx.absolute(), "-f", Path(__file__).with_name("fsx.toml")]
    program += ["-N", options.operations, "-S", options.seed]
    wrong = False
    for writeback in ((), ("--no-writeback",)):
        try:
            with workplace("posix") as top:
                (top / "store").mkdir()
                mount_options = ("--read-write", *writeback)
                with mounted(top / "store", top / "mnt", *mount_options, driver=options.driver) as mountpoint:
                    (mountpoint / "home/posix").mkdir()
                    command = [*program, "-P", top, mountpoint / "home/posix/file"]
                    done = subprocess.run(
                        [str(word) for word in command], capture_output=True, text=True, timeout=3600, check=False
                    )
                said = (done.stdout + done.stderr).splitlines()
        except (CommandFailed, OSError, subprocess.SubprocessError) as problem:
            print(f"posix: FAILED: {problem}", file=sys.stderr)
            return 1
        wrong |= bool(done.returncode)
        print("\n".join(said[-40:]))
        how = f"driver {options.driver} {' '.join(writeback)}".strip()
        verdict = "WRONG" if done.returncode else "clean"
        print(f"posix: fsx, {how}, {options.operations} operations, seed {options.seed}: {verdict}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
