"""Answers that have to wait for the backend: futures, and how to go on from one without waiting.

Threading: a continuation runs in the thread that settles the future (the link's receiver), or in the caller's if it
is settled already; so continuations do dict work and start requests, they never wait. Failure: what a continuation
raises becomes the failure of the future it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

U = TypeVar("U")
Pending = Future


def then(value: Any, go_on: Callable[[Any], U | Pending[U]]) -> U | Pending[U]:
    """*go_on* with the value: at once if it is here, else a Pending of what it will return (flattened).

    A failure of a Pending, or of what goes on from one, is always in the Pending that is returned, never raised.
    *value* is untyped because futures are invariant: a Pending of a file is no Pending of a node to a checker."""
    if not isinstance(value, Future):
        return go_on(value)
    result: Pending[U] = Future()
    value.add_done_callback(lambda source: _pass_on(source, go_on, result))
    if result.done() and result.exception() is None:
        return result.result()
    return result


def rescue(value: Any, kind: type[Exception], answer: Callable[[Exception], U]) -> U | Pending[U]:
    """*value*, but a failure of *kind* is answered by *answer*, which returns a value or raises another error."""
    if not isinstance(value, Future):
        here: U = value
        return here
    result: Pending[U] = Future()

    def settle(source: Pending[U]) -> None:
        failure = source.exception()
        if failure is None:
            result.set_result(source.result())
        elif isinstance(failure, kind):
            _settle(result, lambda: answer(failure))
        else:
            result.set_exception(failure)

    value.add_done_callback(settle)
    return result


def _pass_on(source: Pending[Any], go_on: Callable[[Any], Any], result: Pending[Any]) -> None:
    failure = source.exception()
    if failure is not None:
        result.set_exception(failure)
    else:
        _settle(result, lambda: go_on(source.result()))


def _settle(result: Pending[Any], make: Callable[[], Any]) -> None:
    # Whatever goes wrong in a continuation belongs to the request that waits for it, not to the thread that
    # happened to bring the answer: this is the top of the request's own stack.
    try:
        value = make()
    except BaseException as failure:
        result.set_exception(failure)
        return
    if isinstance(value, Future):
        value.add_done_callback(lambda source: _pass_on(source, lambda final: final, result))
    else:
        result.set_result(value)
