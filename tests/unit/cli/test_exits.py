"""Exit codes: a contract with scripts."""

from __future__ import annotations

import pytest

from arvfuse import errors
from arvfuse.cli import exits
from arvfuse.cli.exits import CODES, code_for


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ArvfuseError("x"), exits.FAILED),
        (errors.NotPermitted("x"), exits.FAILED),
        (errors.UsageError("x"), exits.USAGE),
        (errors.ArgumentError("x"), exits.USAGE),
        (errors.NoSuchRecord("x"), exits.MISSING),
        (errors.NoSuchEntry("x"), exits.MISSING),
        (errors.Busy("x"), exits.BUSY),
        (errors.NameTaken("x"), exits.BUSY),
        (errors.StoreUnavailable("x"), exits.UNREACHABLE),
        (errors.DigestCollision("x"), exits.DAMAGED),
        (errors.InvalidManifest("x"), exits.DAMAGED),
        (errors.NotCommitted("x"), exits.NOT_COMMITTED),
    ],
)
def test_what_scripts_may_rely_on(error, code):
    assert code_for(error) == code


def test_the_numbers_themselves():
    assert (exits.DONE, exits.FAILED, exits.USAGE, exits.MISSING) == (0, 1, 2, 3)
    assert (exits.BUSY, exits.UNREACHABLE, exits.DAMAGED, exits.NOT_COMMITTED) == (4, 5, 6, 7)
    assert exits.INTERRUPTED == 128 + 2


def test_every_class_has_a_code():
    assert CODES[errors.ArvfuseError] == exits.FAILED
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.ArvfuseError):
            assert code_for(cls("x")) in set(CODES.values())
