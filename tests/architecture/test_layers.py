"""Imports point down only, siblings are strangers; imports are absolute, ``__init__`` files hold a docstring."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.support.sources import PACKAGE, imported_units, modules, tree_of, unit_of

LAYERS: Final = (  # bottom first; names in one set may not see each other
    {"arvfuse"},
    {"errors"},
    {"model"},
    {"clock", "writeback"},
    {"sync"},
    {"parallel"},
    {"ports"},
    {"stores", "catalogs", "sdk"},
    {"backend"},
    {"fresh"},
    {"inodes", "notify"},
    {"fusefile"},
    {"fusedir"},
    {"operations"},
    {"drivers"},
    {"settings"},
    {"session", "maintenance"},
    {"supervisor", "server"},
    {"cli"},
    {"__main__"},
)
RANK: Final = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}


def upward(unit: str, tree: ast.Module) -> set[str]:
    """The units that *tree*, a module of *unit*, may not import."""
    return {other for other in imported_units(tree) if other != unit and RANK[other] >= RANK[unit]}


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_point_down(module: Path) -> None:
    unit = unit_of(module)
    assert unit in RANK, f"{module}: {unit} has no layer"
    if module != Path("__init__.py"):  # the package hands out its public names lazily, from any layer
        found = upward(unit, tree_of(PACKAGE / module))
        assert not found, f"{module} reaches up or sideways to {sorted(found)}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_are_absolute(module: Path) -> None:
    relative = [n for n in ast.walk(tree_of(PACKAGE / module)) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative, f"{module}:{relative[0].lineno}: a relative import"


@pytest.mark.parametrize("module", [m for m in modules() if m.name == "__init__.py"], ids=str)
def test_init_files_hold_a_docstring_only(module: Path) -> None:
    tree = tree_of(PACKAGE / module)
    assert ast.get_docstring(tree)
    if module != Path("__init__.py"):
        assert len(tree.body) == 1


@pytest.mark.parametrize("module", modules(), ids=str)
def test_modules_say_what_they_own(module: Path) -> None:
    assert ast.get_docstring(tree_of(PACKAGE / module)), f"{module} has no docstring"


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("model", "import arvfuse.ports"),
        ("stores", "from arvfuse.sdk import log"),
        ("stores", "from arvfuse import catalogs"),
        ("sdk", "def f():\n    from arvfuse.backend.link import BackendLink"),
        ("notify", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from arvfuse.inodes import Inodes"),
    ],
)
def test_an_upward_or_sideways_import_would_be_found(unit: str, source: str) -> None:
    assert upward(unit, ast.parse(source))


@pytest.mark.parametrize("source", ["from arvfuse.stores.localdir import x", "from arvfuse import errors", "import os"])
def test_imports_that_are_allowed(source: str) -> None:
    assert not upward("stores", ast.parse(source))
