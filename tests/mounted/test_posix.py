"""`make posix` that is told to end: its mount goes with it, and so do the processes that serve it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import mounts
from tests.support.programs import ended, eventually
from tests.support.sources import TOP

pytestmark = pytest.mark.mounted
LIMIT_S = 60.0
# Writes to the file that it is given until it is killed, and tells that it has begun.
JUDGE = f"""#!{sys.executable}
import os, sys, time
with open(sys.argv[-1], "wb", buffering=0) as file:
    while True:
        file.write(bytes(100_000))
        open(os.environ["BEGUN"], "w").close()
        time.sleep(0.02)
"""


def served(place: Path) -> list[int]:
    """The processes that have *place* in their command lines."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if os.fsencode(place) in words and b"arvfuse" in words:
            found.append(int(line.parent.name))
    return found


def test_sigterm_ends_the_mount_too(tmp_path: Path) -> None:
    judge, begun, place = tmp_path / "fsx", tmp_path / "begun", tmp_path / "place"
    judge.write_text(JUDGE)
    judge.chmod(0o755)
    place.mkdir()
    environment = os.environ | {"TMPDIR": str(place), "BEGUN": str(begun), "PYTHONPATH": str(TOP)}
    program = subprocess.Popen([sys.executable, "-m", "bench.posix", judge], cwd=TOP, env=environment)
    processes: list[int] = []
    try:
        eventually(begun.exists, limit_s=LIMIT_S)
        processes = [process for process in served(place) if process != program.pid]
        assert len(processes) >= 3
        program.send_signal(signal.SIGTERM)
        assert program.wait(LIMIT_S) == 128 + signal.SIGTERM
        eventually(lambda: all(ended(process) for process in processes))
        assert not [row for row in mounts.mount_table() if row.mountpoint.startswith(str(place))]
        assert list(place.iterdir()) == []
    finally:
        program.kill()
        program.wait()
        for row in mounts.mount_table():
            if row.mountpoint.startswith(str(place)):
                mounts.detach(Path(row.mountpoint))
        for process in processes:
            if not ended(process):
                os.kill(process, signal.SIGKILL)
