"""Keeps the documentation true: tables that are printed from the code, links, the index, promises and their tests.

``python -m tools.docs check`` names what is not current and exits 1; ``write`` prints the tables anew. A table stands
between ``<!-- generated: NAME -->`` and ``<!-- end -->``. No threads; changes files under doc/ only, and only by write.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

TOP: Final = Path(__file__).resolve().parents[1]
BLOCK: Final = re.compile(r"<!-- generated: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAMED_DOC: Final = re.compile(r"`((?:doc/)?(?:decisions/)?[\w-]+\.md)`")
PROMISE: Final = re.compile(r"^(?:[-*] |#+ |\| )?\**([A-Z]\d+)\b\**", re.MULTILINE)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def block_states() -> str:
    """The life of a buffer block, from ``arvfuse.model.blockstate``."""
    module: Any = importlib.import_module("arvfuse.model.blockstate")
    moves = [(old.name, event.name, event.value, new.name) for (old, event), new in module.TRANSITIONS.items()]
    return table(["state", "event", "when", "leads to"], moves)


def drivers() -> str:
    """Where the drivers differ, from ``arvfuse.drivers.capabilities``."""
    module: Any = importlib.import_module("arvfuse.drivers.capabilities")
    rows = [(each.what, "as well" if each.llfuse else each.without) for each in module.CAPABILITIES]
    return table(["kernel", "llfuse"], rows)


GENERATED: Final[Mapping[str, Callable[[], str]]] = MappingProxyType({"block-states": block_states, "drivers": drivers})


def problems(top: Path = TOP, *, write: bool = False) -> list[str]:
    """One line for everything that is not current below *top*; with *write* the tables are mended first."""
    docs = {path: path.read_text() for path in sorted([*top.glob("*.md"), *top.glob("doc/**/*.md")])}
    if write:
        for path, text in docs.items():
            if (current := with_tables(text)) != text:
                path.write_text(current)
                docs[path] = current
    found = []
    for path, text in docs.items():
        name = path.relative_to(top)
        for target in LINK.findall(text):
            if "://" not in target and not (path.parent / target).exists():
                found.append(f"{name}: links to {target}, which does not exist")
        for target in NAMED_DOC.findall(text):
            if not any((base / target).exists() for base in (path.parent, top, top / "doc")):
                found.append(f"{name}: speaks of {target}, which does not exist")
        for kind in dict(BLOCK.findall(text)).keys() - GENERATED.keys():
            found.append(f"{name}: nothing generates a table {kind}")
        if with_tables(text) != text:
            found.append(f"{name}: a generated table is not current; run `make docs`")
    return found + _index_problems(top, docs) + _decision_problems(top, docs) + _promise_problems(top)


def with_tables(text: str) -> str:
    """*text* with every generated table as the code has it now."""

    def current(match: re.Match[str]) -> str:
        make = GENERATED.get(match[1])
        return f"<!-- generated: {match[1]} -->\n{make()}<!-- end -->" if make else match[0]

    return BLOCK.sub(current, text)


def _index_problems(top: Path, docs: Mapping[Path, str]) -> list[str]:
    """Every page stands in doc/README.md."""
    index = top / "doc/README.md"
    if index not in docs:
        return ["doc/README.md is missing: the index of all pages"]
    linked = {(index.parent / target).resolve() for target in LINK.findall(docs[index])}
    pages = [path for path in docs if path.parent != top and path != index]
    return [f"doc/README.md: no link to {path.relative_to(top)}" for path in pages if path.resolve() not in linked]


def _decision_problems(top: Path, docs: Mapping[Path, str]) -> list[str]:
    """Decisions are numbered, and no number is given twice."""
    found, seen = [], dict[str, str]()
    for path in docs:
        if path.parent == top / "doc/decisions":
            number = path.name.partition("-")[0]
            if not re.fullmatch(r"\d{4}", number):
                found.append(f"doc/decisions/{path.name}: is not called NNNN-what.md")
            elif number in seen:
                found.append(f"doc/decisions/{path.name}: has the number of {seen[number]}")
            seen[number] = path.name
    return found


def _promise_problems(top: Path) -> list[str]:
    """Every numbered promise has a test that names it: ``test_d1_...`` or the number in a test's text."""
    page = top / "doc/semantics.md"
    if not page.exists():
        return ["doc/semantics.md is missing: the numbered promises"]
    tests = "".join(path.read_text() for path in (top / "tests/semantics").glob("test_*.py"))
    return [
        f"doc/semantics.md: no test in tests/semantics names {number}"
        for number in dict.fromkeys(PROMISE.findall(page.read_text()))
        if not re.search(rf"\b{number}\b|test_{number.lower()}_", tests)
    ]


def main(argv: Sequence[str]) -> int:
    """Run ``check`` or ``write``; 0 if everything is current."""
    if list(argv) not in (["check"], ["write"]):
        print("usage: python -m tools.docs check|write", file=sys.stderr)
        return 2
    found = problems(write=list(argv) == ["write"])
    for line in found:
        print(line, file=sys.stderr)
    print(f"docs: {len(found)} problems" if found else "docs: current")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
