"""Measurements of the same work on several places, taken in turns, and what they say of each other.

A row is one kind of work; its samples are rates (bigger is better), one of each place and round. Ratios are medians
of the ratios of samples of one round: the machine is shared, and what a neighbour takes is taken from both. No
threads; owns nothing but the samples.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.subjects import HOME, LLFUSE, NATIVE, OURS, Place, Subject
from bench.table import Row, Table, median_ratio


@dataclass(slots=True)
class Comparison:
    """Samples by row and place of one case."""

    case: str
    units: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, row: str, place: Place | str, value: float, unit: str = "/s") -> None:
        """One sample."""
        name = place if isinstance(place, str) else place.name
        self.units[row] = unit
        self.samples.setdefault(row, {}).setdefault(name, []).append(value)

    def medians(self, row: str) -> dict[str, float]:
        """Of each place that has samples."""
        return {name: statistics.median(values) for name, values in self.samples.get(row, {}).items()}

    def ratio(self, row: str, ours: str, theirs: str, their_row: str | None = None) -> float | None:
        """The median of our samples over theirs of the same round; None if one was not measured."""
        mine = self.samples.get(row, {}).get(ours)
        other = self.samples.get(their_row or row, {}).get(theirs)
        return median_ratio(mine, other) if mine and other and len(mine) == len(other) and all(other) else None

    def target(
        self, table: Table, row: str, ours: str, theirs: str, least: float, *, their_row: str | None = None,
        beside: str | None = None,
    ) -> None:  # fmt: skip
        """A row of the table: ours over theirs must be *least*; nothing if one of the two was not measured.

        *beside*: a place of which the note says what it reaches: what this machine allows at most."""
        ratio = self.ratio(row, ours, theirs, their_row)
        if ratio is None or (ours, row) == (theirs, their_row or row):
            return
        mine, other = self.medians(row)[ours], self.medians(their_row or row)[theirs]
        note = f"{mine:.4g} against {other:.4g} {self.units[row]}"
        if their_row is not None and (native := self.ratio(row, NATIVE, NATIVE, their_row)) is not None:
            note += f"; native {native:.2f}"
        if beside is not None and (most := self.ratio(row, beside, theirs, their_row)) is not None:
            note += f"; {beside} {most:.2f}"
        name = f"{row}: {ours} / {theirs}" if their_row is None else f"{row} / {their_row}: {ours}"
        table.add(Row(name, ratio, "ratio", least, note=note))

    def show(self) -> None:
        """Print a line for every row: the medians of all places."""
        for row in self.samples:
            each = "  ".join(f"{name} {median:.4g}" for name, median in self.medians(row).items())
            print(f"{row + ', ' + self.units[row]:<46} {each}", flush=True)

    def rates(self) -> list[str]:
        """The rows in which more is better: not seconds, nor CPU."""
        return [row for row, unit in self.units.items() if not unit.startswith("s")]

    def ratios(self, ours: str, peer: str) -> dict[str, float]:
        """Our part of the peer's rate, by row."""
        found = {row: self.ratio(row, ours, peer) for row in self.rates()}
        return {row: ratio for row, ratio in found.items() if ratio is not None}

    def as_data(self) -> dict[str, Any]:
        """For a results file."""
        return {"case": self.case, "units": self.units, "samples": self.samples}


@contextmanager
def running(subjects: Sequence[Subject], top: Path) -> Iterator[list[Place]]:
    """All subjects at once, each in a directory of its own below *top*."""
    with ExitStack() as stack:
        places = []
        for subject in subjects:
            directory = top / subject.name.replace(" ", "-")
            directory.mkdir(parents=True)
            place = stack.enter_context(subject.run(directory))
            if place.name not in (OURS, LLFUSE):  # as deep as our collections: each name of a path costs
                place.top = place.top / HOME
                place.top.mkdir()
            places.append(place)
        yield places


Step = Callable[[Place, int], None]


def in_turns(places: Sequence[Place], rounds: int, steps: Sequence[Step]) -> None:
    """Every step on one place after the other, so that what is compared is done within seconds; then the next round.

    Each round begins with another place, so that none is always the first."""
    for turn in range(rounds):
        start = turn % len(places)
        for step in steps:
            for place in [*places[start:], *places[:start]]:
                step(place, turn)
