"""One process of the stress program: file operations that verify what they read, below one view of the place.

Owns the settings of a run and the counters of a worker. No threads. What a file system must not do raises Wrong;
an OSError means the same and is left to whoever runs the worker.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.fstest.pages import PAGE_BYTES, Model, Page, explain

Interfere = Callable[[Path], None]
"""Called with a file between writing and reading back: how the tests prove that damage is found."""


class Wrong(Exception):
    """The directory did not do what a file system does; the text says where."""


@dataclass(slots=True)
class Result:
    """What one worker did, and what must be there when all have ended (paths are relative to the base)."""

    files: int = 0
    wrote: int = 0
    read: int = 0
    kept: dict[str, Model] = field(default_factory=dict)
    claims: list[tuple[str, Page]] = field(default_factory=list)
    appended: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's settings. *bases* are the views of the directory in which the run makes its places."""

    dirs: tuple[Path, ...]
    bases: tuple[Path, ...]
    name: str
    seed: int
    processes: int
    cycles: int
    big: bool
    keep: bool
    sandbox: bool
    interfere: Interfere | None = None
    first_test: int = 0

    @property
    def alone(self) -> bool:
        """One view: every read shows the last write."""
        return len(self.dirs) == 1

    def test_name(self, worker: int, cycle: int) -> str:
        """The collection that *worker* makes in *cycle*."""
        prefix = f"{self.name}-" if self.sandbox else ""
        return f"{prefix}test{self.first_test + cycle * self.processes + worker}"

    def repeat_line(self, scenario: str) -> str:
        """The command that does the same again."""
        words = ["fstest.py", *map(str, self.dirs), "--big" if self.big else "--small"]
        words += [f"--processes {self.processes} --cycles {self.cycles} --seed {self.seed} --scenario {scenario}"]
        return " ".join(words + ["--sandbox"] * self.sandbox)


class Worker:
    """One process of a scenario: verified file operations below one view, seeded by its number."""

    def __init__(
        self, run: Run, scenario: str, number: int, steps: MutableSequence[int], done: MutableSequence[int]
    ) -> None:
        self.run: Final = run
        self.number: Final = number
        self.base: Final = run.bases[number % len(run.bases)]
        self.place: Final = self.base / run.name / scenario
        self.other: Final = self.base / f"{run.name}-other"
        self.rng: Final = random.Random(f"{run.seed}/{scenario}/{number}")
        self.result: Final = Result()
        self.done: Final = done  # cycles finished, per worker: shared by all of the scenario
        self._steps: Final = steps  # the same of operations, for the parent to see who hangs
        self._version = 0

    def cycles(self) -> Iterator[int]:
        """The cycle numbers; finishing one is published to the other workers."""
        for cycle in range(self.run.cycles):
            yield cycle
            self.done[self.number] = cycle + 1

    def step(self) -> None:
        """Note that this worker lives."""
        self._steps[self.number] += 1

    def version(self) -> int:
        """A version number this worker never used."""
        self._version += 1
        return self._version

    def size(self, rng: random.Random) -> int:
        """Bytes of a new file: mostly small, sometimes past the 1 MiB, seldom (--big) past a block of 64 MiB."""
        kind = rng.random()
        if self.run.big and kind < 0.01:
            return rng.randrange(64 << 20, 80 << 20)
        if kind < (0.2 if self.run.big else 0.05):
            return rng.randrange(1 << 20, 5 << 20 if self.run.big else 3 << 19)
        return rng.randrange(0, 200_000)

    def create(self, path: Path, *, size: int | None = None, rng: random.Random | None = None) -> Model:
        """Make a new file, written in pieces of random length."""
        rng = rng or self.rng
        self.step()
        size = self.size(rng) if size is None else size
        model = Model(self.run.seed, self.number, rng.getrandbits(63))
        version, count = self.version(), -(-size // PAGE_BYTES)
        with open(path, "xb", buffering=0) as file:
            while len(model.pages) < count:
                first = len(model.pages)
                data = b"".join(model.put(i, version) for i in range(first, min(count, first + rng.randint(1, 64))))
                self.write(file.fileno(), data[: size - first * PAGE_BYTES], first * PAGE_BYTES)
        model.cut(size)
        self.result.files += 1
        return model

    def rewrite(self, path: Path, model: Model) -> None:
        """Overwrite pages anywhere, leave holes, truncate up and down."""
        self.step()
        with open(path, "r+b", buffering=0) as file:
            for _ in range(self.rng.randint(1, 8)):
                last = len(model.pages) + (3 if self.rng.random() < 0.2 else 0)
                index = self.rng.randint(0, max(0, last))
                self.write(file.fileno(), model.put(index, self.version()), index * PAGE_BYTES)
            if self.rng.random() < 0.4:
                model.cut(self.rng.randint(0, model.size + 3 * PAGE_BYTES))
                os.ftruncate(file.fileno(), model.size)
            if self.rng.random() < 0.2:
                os.fsync(file.fileno())

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of *data* at *offset*."""
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)
        self.result.wrote += len(data)

    def check(self, path: Path, model: Model) -> None:
        """Read the whole file by its name; every byte and the size must be as the model says."""
        if self.run.interfere is not None:
            self.run.interfere(path)
        with open(path, "rb", buffering=0) as file:
            self.check_open(file.fileno(), path, model)

    def check_open(self, fd: int, path: Path, model: Model) -> None:
        """The same through an open descriptor; *path* is for the message only."""
        self.step()
        if (size := os.fstat(fd).st_size) != model.size:
            raise Wrong(f"{path}: size {size} instead of {model.size}")
        index = 0
        while index < len(model.pages):
            count = self.rng.randint(1, 64)
            data = os.pread(fd, count * PAGE_BYTES, index * PAGE_BYTES)
            self.result.read += len(data)
            for i in range(index, min(index + count, len(model.pages))):
                got = data[(i - index) * PAGE_BYTES :][:PAGE_BYTES]
                if got != (want := model.expected(i)):
                    raise Wrong(f"{path}: {explain(got, want, i)}")
            index += count

    def gone(self, path: Path) -> None:
        """The name must not exist."""
        self.step()
        if os.path.lexists(path):
            raise Wrong(f"{path}: is still there")

    def listed(self, directory: Path, want: set[str], mine: Callable[[str], bool] = lambda _name: True) -> None:
        """The listing must show exactly *want* among the names that are *mine*."""
        self.step()
        got = {name for name in os.listdir(directory) if mine(name)}
        if got != want:
            raise Wrong(f"{directory}: listing lacks {sorted(want - got)[:5]}, has too much {sorted(got - want)[:5]}")

    def keep(self, path: Path, model: Model) -> None:
        """The file stays; it is verified once more at the end, through every view."""
        self.result.kept[str(path.relative_to(self.base))] = model
