"""Rows of measurements, printed as one table, and whether each met its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """*value* against *target*; *at_least*: bigger is better. A row without a target only informs."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(slots=True)
class Table:
    """Collects rows and prints them as they come."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(line(row), flush=True)

    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.met]


def line(row: Row) -> str:
    """One row as text."""
    target = "" if row.target is None else f"{'>=' if row.at_least else '<='} {row.target:g}"
    verdict = "" if row.target is None else ("ok" if row.met else "MISSED")
    return f"{row.name:<58} {row.value:>10.4g} {row.unit:<8} {target:<10} {verdict:<7} {row.note}".rstrip()


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours/theirs, pair by pair, of interleaved runs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
