"""Modes of open()."""

from __future__ import annotations

import pytest

from arvfuse.errors import ArgumentError
from arvfuse.sdk.modes import Mode, parse_mode


@pytest.mark.parametrize(
    ("mode", "parsed"),
    [
        ("r", Mode("r", True, False, False, False, False, False, False)),
        ("rt", Mode("r", True, False, False, False, False, False, False)),
        ("rb", Mode("rb", True, False, False, False, False, False, True)),
        ("r+", Mode("r+", True, True, False, False, False, False, False)),
        ("rb+", Mode("rb+", True, True, False, False, False, False, True)),
        ("r+b", Mode("rb+", True, True, False, False, False, False, True)),
        ("w", Mode("w", False, True, False, True, True, False, False)),
        ("wb+", Mode("wb+", True, True, False, True, True, False, True)),
        ("a+b", Mode("ab+", True, True, True, True, False, False, True)),
        ("x", Mode("x", False, True, False, True, False, True, False)),
        ("xb", Mode("xb", False, True, False, True, False, True, True)),
    ],
)
def test_modes(mode: str, parsed: Mode) -> None:
    assert parse_mode(mode) == parsed


@pytest.mark.parametrize("mode", ["", "b", "br", "rw", "rbt", "r++", "rbb", "z", "rU", "r b", "+r"])
def test_what_is_no_mode(mode: str) -> None:
    with pytest.raises(ArgumentError, match="invalid mode"):
        parse_mode(mode)


def test_a_mode_is_a_text() -> None:
    with pytest.raises(TypeError):
        parse_mode(None)  # type: ignore[arg-type]
