"""Values with many fields of one type are made with the fields' names, so that neighbours are not mixed up.

They are named tuples, because classes of ``dataclasses`` took a tenth of a mount's start to make; those cannot refuse
positional arguments themselves.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.sources import TOP

NAMED = frozenset(
    {"Applied", "Agreed", "Change", "CollectionRecord", "MountOptions", "Mounting", "Outcome", "ProjectRecord"}
    | {"Recovered", "Save", "Serving", "Settings", "Timing", "Wanted"}
)
SOURCES = [path for top in ("arvfuse", "bench") for path in sorted((TOP / top).rglob("*.py"))]


def positional(tree: ast.AST) -> list[str]:
    """Calls of the classes with an argument that has no name."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [
        (call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")) for call in calls
    ]
    return [
        f"{name} in line {call.lineno}" for call, name in zip(calls, made, strict=True) if name in NAMED and call.args
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_fields_are_named(source: Path) -> None:
    assert positional(ast.parse(source.read_text())) == []


def test_a_positional_argument_is_found() -> None:
    assert positional(ast.parse("Save(uuid=1)\nx.Applied(1, 2)")) == ["Applied in line 2"]
