"""What a run of the benchmarks is given and what it gathers. No threads; owns the working directory's contents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.comparison import Comparison, running
from bench.mounting import CommandFailed
from bench.subjects import LLFUSE, OURS, Place, Subject, bare_kernel, bare_llfuse, native, ours
from bench.table import Table


@dataclass(slots=True)
class Run:
    """*driver*: of our mounts, as given; *llfuse*: whether llfuse is a second one to compare with; *scale*: the
    divisor of all work."""

    table: Table
    top: Path
    driver: str = "auto"
    llfuse: bool = True
    scale: int = 1
    rounds: int = 3
    latency: str = "auto"
    comparisons: list[Comparison] = field(default_factory=list)

    def size(self, full_bytes: int, *, least: int = 4 << 20) -> int:
        """Bytes of a file, in whole MiB."""
        return max(least, full_bytes // self.scale >> 20 << 20)

    def count(self, full: int) -> int:
        """How many."""
        return max(10, full // self.scale)

    def ours(self, *options: str) -> Subject:
        """This project with the driver, and the way of waiting for requests, that is asked for."""
        waiting = () if self.latency == "auto" else ("--latency", self.latency)
        return ours(OURS, self.driver, *waiting, *options)

    def both(self) -> list[Subject]:
        """This project, and beside it with llfuse where that is another driver."""
        return [self.ours(), *([ours(LLFUSE, "llfuse")] if self.llfuse else [])]

    def ceilings(self, preallocate_mib: int) -> list[Subject]:
        """Native and bare kernel loop: what nothing that stores can be faster than."""
        return [native(), bare_kernel(preallocate_mib, self.latency)]

    def all(self, preallocate_mib: int) -> list[Subject]:
        """Everything that is here to compare."""
        return [*self.both(), *self.ceilings(preallocate_mib), bare_llfuse(preallocate_mib), *peers.present()[0]]

    @contextmanager
    def compare(self, case: str, subjects: Sequence[Subject]) -> Iterator[tuple[Comparison, list[Place]]]:
        """The places and where to note; what could not be mounted is said and left out. Rows are shown at the end."""
        comparison = Comparison(case)
        top = self.top / case
        top.mkdir()
        usable = [subject for subject in subjects if self._works(subject)]
        with running(usable, top) as places:
            yield comparison, places
        shutil.rmtree(top)
        comparison.show()
        self.comparisons.append(comparison)

    def _works(self, subject: Subject) -> bool:
        directory = self.top / f"try-{subject.name.replace(' ', '-')}"
        if directory.exists():
            return not (directory / "failed").exists()
        directory.mkdir()
        try:
            with subject.run(directory):
                return True
        except (CommandFailed, OSError) as problem:
            if subject.name == OURS:
                raise
            (directory / "failed").touch()
            print(f"not compared, does not mount here: {subject.name}: {problem}", flush=True)
            return False
