"""The documentation is current, and what is not would be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import docs


def test_the_documentation_is_current() -> None:
    assert docs.problems() == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small documentation with nothing wrong."""
    for name, text in {
        "README.md": "see [all](doc/README.md) and `doc/a.md`",
        "doc/README.md": "[a](a.md) [one](decisions/0001-one.md) [promises](semantics.md)",
        "doc/a.md": f"<!-- generated: block-states -->\n{docs.block_states()}<!-- end -->\n",
        "doc/decisions/0001-one.md": "",
        "doc/semantics.md": "- D1 never lost\n- C2 seen\n",
        "tests/semantics/test_promises.py": '"""C2"""\ndef test_d1_kept(): ...\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert docs.problems(tmp_path) == []
    return tmp_path


def more(name: str, text: str) -> Callable[[Path], None]:
    """Appends *text* to a page."""

    def append(top: Path) -> None:
        with (top / name).open("a") as page:
            page.write(text)

    return append


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (more("README.md", "[x](doc/missing.md)"), "README.md: links to doc/missing.md"),
        (more("doc/a.md", "`gone.md`"), "doc/a.md: speaks of gone.md"),
        (more("doc/b.md", "b"), "no link to doc/b.md"),
        (more("doc/a.md", "<!-- generated: unknown -->\n<!-- end -->"), "nothing generates a table unknown"),
        (more("doc/a.md", "<!-- generated: block-states -->\nold\n<!-- end -->"), "not current"),
        (more("doc/semantics.md", "- B3 bounded\n"), "names B3"),
        (more("doc/decisions/0001-two.md", ""), "has the number of 0001-one.md"),
        (lambda top: (top / "doc/semantics.md").unlink(), "semantics.md is missing"),
        (lambda top: (top / "doc/README.md").unlink(), "README.md is missing"),
    ],
)
def test_what_is_not_current_is_found(tree: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(tree)
    assert any(said in line for line in docs.problems(tree))


def test_write_mends_tables(tree: Path) -> None:
    page = tree / "doc/a.md"
    page.write_text("before\n<!-- generated: block-states -->\nold\n<!-- end -->\nafter\n")
    assert docs.problems(tree, write=True) == []
    text = page.read_text()
    assert text.startswith("before\n<!-- generated")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| PENDING | STORED |" in text
