"""Going on from an answer that may not be there yet."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from arvfuse.fresh.pending import Pending, rescue, then


def test_a_value_goes_on_at_once() -> None:
    assert then(2, lambda n: n + 1) == 3
    assert rescue(2, ValueError, lambda _: 0) == 2


def test_a_settled_pending_goes_on_at_once() -> None:
    settled: Pending[int] = Future()
    settled.set_result(2)
    assert then(settled, lambda n: n + 1) == 3


def test_an_open_pending_goes_on_later_and_is_flattened() -> None:
    first: Pending[int] = Future()
    second: Pending[int] = Future()
    result = then(first, lambda _: second)
    assert isinstance(result, Pending)
    first.set_result(1)
    assert not result.done()
    second.set_result(2)
    assert result.result() == 2


@pytest.mark.parametrize("where", ["first", "continuation", "second"])
def test_a_failure_anywhere_is_the_failure_of_the_result(where: str) -> None:
    first: Pending[int] = Future()
    second: Pending[int] = Future()

    def go_on(_: int) -> Pending[int]:
        if where == "continuation":
            raise KeyError("here")
        return second

    result: Any = then(first, go_on)
    if where == "first":
        first.set_exception(KeyError("here"))
    else:
        first.set_result(1)
        if where == "second":
            second.set_exception(KeyError("here"))
    assert isinstance(result.exception(), KeyError)


def test_rescue_answers_its_kind_only() -> None:
    def answer(failure: Exception) -> int:
        if str(failure) == "'worse'":
            raise RuntimeError from failure
        return 7

    for raised, expected in ((KeyError("bad"), 7), (KeyError("worse"), RuntimeError), (OSError(), OSError)):
        source: Pending[int] = Future()
        result: Any = rescue(source, KeyError, answer)
        source.set_exception(raised)
        if expected == 7:
            assert result.result() == 7
        else:
            assert isinstance(result.exception(), expected)  # type: ignore[arg-type]
    fine: Pending[int] = Future()
    passed: Any = rescue(fine, KeyError, answer)
    fine.set_result(1)
    assert passed.result() == 1
