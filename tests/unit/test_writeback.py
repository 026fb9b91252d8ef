"""Early writing of dirty pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse import writeback
from arvfuse.writeback import start_writeback


def test_a_file_is_asked_for_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        start_writeback(file.fileno())  # the real call
        asked: list[tuple[int, ...]] = []
        monkeypatch.setattr(writeback, "_sync_file_range", lambda: lambda *call: asked.append(call))
        start_writeback(file.fileno())
        assert asked == [(file.fileno(), 0, 0, 2)]
        monkeypatch.setattr(writeback, "_sync_file_range", lambda: None)  # a system without the call
        start_writeback(file.fileno())
    assert (tmp_path / "f").read_bytes() == bytes(1 << 20)
