"""One idea per module: no file grows past 500 lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.sources import TOP

MOST_LINES: Final = 500
FILES = sorted(
    path.relative_to(TOP)
    for top in ("arvfuse", "bench", "tools", "tests", "examples", "fstest.py", "setup.py")
    for path in ([TOP / top] if top.endswith(".py") else (TOP / top).rglob("*.py"))
)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_is_longer_than_500_lines(path: Path) -> None:
    lines = len((TOP / path).read_text().splitlines())
    assert lines <= MOST_LINES, f"{path} has {lines} lines: it holds more than one idea"
