"""The sources of the package as the architecture tests see them: modules, units of layers, syntax trees."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = TOP / "arvfuse"


def modules() -> list[Path]:
    """Every module of the package, ``__init__`` and ``__main__`` included, relative to the package."""
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    """The parsed source of a file (absolute path)."""
    return ast.parse(path.read_text(), filename=str(path))


def unit_of(module: Path) -> str:
    """The layer's name of a module: its package, or its own name at the top; ``arvfuse`` for the package itself."""
    unit = module.with_suffix("").parts[0]
    return "arvfuse" if unit == "__init__" else unit


def imported_units(tree: ast.Module) -> set[str]:
    """The units that a module imports anywhere, in functions and under TYPE_CHECKING too."""
    units = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == PACKAGE.name:
                parts = name.split(".")[1:]
                inside = bool(parts) and ((PACKAGE / parts[0]).is_dir() or (PACKAGE / f"{parts[0]}.py").is_file())
                units.add(parts[0] if inside else "arvfuse")
    return units


def public_names(tree: ast.Module) -> set[str]:
    """The public names a module defines, without what exists for the type checker only (aliases, NewTypes,
    type variables) and loggers."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and not _for_types_only(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and "TypeAlias" not in ast.unparse(node.annotation):
            names.add(ast.unparse(node.target))
    return {name for name in names if not name.startswith("_")}


def _for_types_only(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        called = ast.unparse(value.func).split(".")[-1]
        return called in {"NewType", "TypeVar", "ParamSpec", "getLogger"}
    if isinstance(value, ast.Subscript):
        return isinstance(value.value, ast.Name) and value.value.id[0].isupper()  # Callable[...], not table[...]
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        return all(_names_a_type(side) for side in (value.left, value.right))
    return False


def _names_a_type(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant):
        return value.value is None
    if isinstance(value, ast.BinOp):
        return isinstance(value.op, ast.BitOr) and _names_a_type(value.left) and _names_a_type(value.right)
    if isinstance(value, ast.Subscript):
        return _names_a_type(value.value)
    builtin = {"int", "str", "bytes", "bytearray", "memoryview", "float", "bool", "list", "dict", "tuple", "set"}
    return isinstance(value, ast.Name | ast.Attribute) and (
        (name := ast.unparse(value).split(".")[-1]) in builtin or (name[:1].isupper() and not name.isupper())
    )


def asserted_names(tree: ast.Module) -> set[str]:
    """The names that some test of a test module with an assertion uses, itself or through helpers and fixtures of
    the same module. A name that is only imported, or used by a test that asserts nothing, is not in it."""
    uses: dict[str, set[str]] = {}
    asserting: set[str] = set()
    tests: list[str] = []
    everywhere: set[str] = set()
    for node in tree.body:
        for key, part in _definitions(node):
            uses[key] = uses.get(key, set()) | _used(part)
            if _asserts(part):
                asserting.add(key)
            if key.startswith("test") or (key.startswith("Test") and isinstance(node, ast.Assign)):
                tests.append(key)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and _is_autouse(node):
            everywhere.add(node.name)
    found: set[str] = set()
    for test in tests:
        reached, todo = {test}, {*uses[test], *everywhere}
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo |= uses.get(name, set())
        if reached & asserting or any(name.startswith(("assert_", "check_")) for name in reached):
            found |= reached
    return found


def _definitions(node: ast.stmt) -> list[tuple[str, ast.AST]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return [(node.name, node)]
    if isinstance(node, ast.ClassDef):
        inner = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name.startswith("test")]
        return [(node.name, node), *((f"test {node.name}.{item.name}", item) for item in inner)]
    if isinstance(node, ast.Assign):
        return [(t.id, node) for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [(node.target.id, node)]
    return []


def _used(node: ast.AST) -> set[str]:
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Attribute):
            names.add(part.attr)
        elif isinstance(part, ast.arg):
            names.add(part.arg)
        elif isinstance(part, ast.alias):
            names.add(part.name.split(".")[-1])
    return names


def _asserts(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Assert)
        or (isinstance(part, ast.Attribute) and part.attr in {"raises", "warns", "fail"})
        or (isinstance(part, ast.Call) and ast.unparse(part.func).split(".")[-1].startswith(("assert_", "check_")))
        for part in ast.walk(node)
    )


def _is_autouse(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any("autouse=True" in ast.unparse(decorator) for decorator in node.decorator_list)
