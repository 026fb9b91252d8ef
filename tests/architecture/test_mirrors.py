"""Every module has a file of unit tests in the same place, and every public name an assertion there.

``arvfuse/a/b.py`` is mirrored by ``tests/unit/a/test_b.py``; where that grows past one idea, by files
``test_b_<idea>.py`` beside it too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.sources import PACKAGE, TOP, asserted_names, modules, public_names, tree_of

MIRRORED = [module for module in modules() if module.name not in {"__init__.py", "__main__.py"}]


@pytest.mark.parametrize("module", MIRRORED, ids=str)
def test_every_public_name_has_an_assertion_in_the_mirror(module: Path) -> None:
    directory = TOP / "tests/unit" / module.parent
    mirror = directory / f"test_{module.stem}.py"
    assert mirror.is_file(), f"{mirror.relative_to(TOP)} is missing"
    files = [mirror, *directory.glob(f"test_{module.stem}_*.py")]
    asserted = set().union(*(asserted_names(tree_of(file)) for file in files))
    missing = public_names(tree_of(PACKAGE / module)) - asserted
    assert not missing, f"{mirror.relative_to(TOP)} asserts nothing about {sorted(missing)}"


TESTS = """
from arvfuse.x import used, helped, built, listed, idle, imported
CASES = [listed]
@pytest.fixture
def thing(): return built()
def helper(): return helped()
def test_one(thing): assert used() == helper()
def test_two(): idle()
@pytest.mark.parametrize("case", CASES)
def test_three(case):
    with pytest.raises(ValueError): case()
"""


def test_a_name_counts_when_a_test_that_asserts_uses_it() -> None:
    names = {"used", "helped", "built", "listed", "idle", "imported"}
    assert asserted_names(ast.parse(TESTS)) & names == {"used", "helped", "built", "listed"}


MODULE = """
log = logging.getLogger(__name__)
InodeNo = NewType("InodeNo", int)
Ref = str | int
Job = Callable[[int], None]
LIMIT: Final = 3
FLAGS = A | B
_private = 1
class Public: pass
def function(): pass
"""


def test_names_for_the_type_checker_need_no_assertion() -> None:
    assert public_names(ast.parse(MODULE)) == {"LIMIT", "FLAGS", "Public", "function"}
