"""The examples of doc/sdk.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.sources import TOP

EXAMPLES = re.findall(r"```python\n(.*?)```", (TOP / "doc/sdk.md").read_text(), re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "session.open" in EXAMPLES[number]:
        from arvfuse.session import open as open_session

        monkeypatch.setattr("arvfuse.session.open", lambda directory: open_session(directory, unsafe_filesystem=True))
    exec(compile(EXAMPLES[number], f"doc/sdk.md, example {number + 1}", "exec"), {})
