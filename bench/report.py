"""The results of a run as tables of Markdown: `python -m bench --results FILE`, then `python -m bench.report FILE`.

Prints the targets, then for each case the medians of every place. No threads; reads one file.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def targets(results: Mapping[str, Any]) -> str:
    """What must be shown, and whether it was."""
    rows = [
        [
            row["name"],
            f"{row['value']:.3g} {row['unit']}",
            f"{'at least' if row['at_least'] else 'at most'} {row['target']:g}",
            "yes" if row["met"] else "**no**",
            row["note"],
        ]
        for row in results["targets"]
    ]
    return markdown(["what", "measured", "target", "met", "medians"], rows)


def comparison(case: Mapping[str, Any]) -> str:
    """The medians of one case, a column for each place."""
    samples: Mapping[str, Mapping[str, Sequence[float]]] = case["samples"]
    places = list(dict.fromkeys(place for row in samples.values() for place in row))
    rows = []
    for row, by_place in samples.items():
        medians = [f"{statistics.median(by_place[place]):.4g}" if place in by_place else "" for place in places]
        rows.append([f"{row}, {case['units'][row]}", *medians])
    return markdown(["", *places], rows)


def report(results: Mapping[str, Any]) -> str:
    """All of it."""
    parts = [f"{results['machine']}; `--driver {results['driver']}`{'; **--quick**' if results['quick'] else ''}\n"]
    parts.append(targets(results))
    parts += [f"`{case['case']}`:\n\n{comparison(case)}" for case in results["comparisons"]]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report of a results file."""
    parser = argparse.ArgumentParser(prog="report", description="Results of a run as tables of Markdown.")
    parser.add_argument("results", type=Path, help="what `python -m bench --results FILE` wrote")
    print(report(json.loads(parser.parse_args(argv).results.read_text())), end="")


if __name__ == "__main__":
    main()
