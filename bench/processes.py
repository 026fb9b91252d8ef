"""What the processes of a mount use: anonymous memory and CPU time, read from /proc."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")


def mount_processes(mountpoint: Path) -> list[int]:
    """The processes of the `arvfuse mount` at *mountpoint*: those whose command line names it, and their children."""
    wanted = os.fsencode(mountpoint)
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry)] = int(fields[1])
        if wanted in words and any(word.endswith((b"arvfuse", b"bench.bare_llfuse")) for word in words):
            found.add(int(entry))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found - {os.getpid()})


def anonymous_bytes(pids: list[int]) -> int:
    """Private anonymous memory of *pids* together; pages that forked processes share count once, by proportion."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss_Anon:"):
                total += int(line.split()[1]) << 10
    return total


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of *pids* so far."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def running_seconds(pids: list[int]) -> float:
    """CPU time of all threads of *pids* that live, to the microsecond: for what uses hardly any."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


class PeakMemory:
    """Samples the anonymous memory of a mount's processes every 50 ms inside a with block; *peak* in bytes."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint: Final = mountpoint
        self._end: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._watch, name="peak-memory")
        self.peak = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        pids = mount_processes(self._mountpoint)
        while not self._end.wait(0.05):
            self.peak = max(self.peak, anonymous_bytes(pids))
