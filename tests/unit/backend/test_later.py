"""Modules that are read when a mount is ready."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from arvfuse.backend.later import BACKEND, ENGINE, read_modules


@pytest.mark.parametrize("name", [*BACKEND, *ENGINE])
def test_what_is_read_later_is_there(name):
    assert import_module(name).__name__ == name


def test_what_cannot_be_read_is_logged_and_keeps_no_other_from_it(caplog, monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    read_modules(("arvfuse.no_such_module", "colorsys"))
    assert "arvfuse.no_such_module cannot be read" in caplog.text
    assert "colorsys" in sys.modules
