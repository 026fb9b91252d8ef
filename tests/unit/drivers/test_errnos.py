"""Every failure has one reply, and an outage is never a missing name."""

from __future__ import annotations

import errno
import logging
from typing import Any

import pytest

from arvfuse import errors
from arvfuse.drivers.errnos import BUG, NOT_IMPLEMENTED, REPLY, reply_for

CLASSES = [
    cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, errors.ArvfuseError) and not name.startswith("_")
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_a_reply(cls: type[errors.ArvfuseError]) -> None:
    assert cls in REPLY
    code, level = REPLY[cls]
    assert code in errno.errorcode
    assert level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, OSError)])
def test_the_reply_agrees_with_the_builtin_kind(cls: Any) -> None:
    assert reply_for(cls())[0] == cls().errno


@pytest.mark.parametrize(
    "failure", [errors.StoreUnavailable("x"), errors.BlockMissing("x"), errors.Damaged("x"), errors.LogFailed("x")]
)
def test_an_outage_or_damage_is_eio(failure: errors.ArvfuseError) -> None:
    assert reply_for(failure)[0] == errno.EIO


def test_a_class_of_tomorrow_takes_the_row_of_its_base() -> None:
    class VeryDamaged(errors.Damaged):
        pass

    assert reply_for(VeryDamaged("x")) == REPLY[errors.Damaged]


@pytest.mark.parametrize("failure", [KeyError("x"), OSError(errno.ENOENT, "x"), AssertionError(), MemoryError()])
def test_what_is_not_ours_is_a_bug(failure: BaseException) -> None:
    assert reply_for(failure) == BUG == (errno.EIO, logging.CRITICAL)


def test_not_implemented_is_what_the_kernel_remembers() -> None:
    assert NOT_IMPLEMENTED == errno.ENOSYS
