from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import ArgumentError, BlockMissing, Damaged, NoSpace, StoreUnavailable
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from arvfuse.stores.retrying import Retrying
from tests.support.stores import StillClock, md5, spooled


def retrying(script: str, attempts: int = 3) -> tuple[Retrying, Faulty, StillClock]:
    faulty, clock = Faulty(MemoryStore(), script), StillClock()
    return Retrying(faulty, attempts=attempts, clock=clock, uniform=lambda: 0.5, base_s=1, cap_s=3), faulty, clock


def test_what_passes_is_met_with_patience() -> None:
    store, faulty, clock = retrying("put: FAIL AFTER ok")
    assert store.put(b"foo") == f"{md5(b'foo')}+3"
    assert faulty.calls("put") == 3
    assert clock.slept_s == [0.5, 1.0]


def test_the_wait_is_capped_and_the_attempts_are_bounded() -> None:
    store, faulty, clock = retrying("barrier: FAIL*", attempts=5)
    with pytest.raises(StoreUnavailable):
        store.barrier()
    assert faulty.calls("barrier") == 5
    assert clock.slept_s == [0.5, 1.0, 1.5, 1.5]


@pytest.mark.parametrize(("word", "kind"), [("MISSING", BlockMissing), ("DAMAGED", Damaged), ("NOSPACE", NoSpace)])
def test_what_does_not_pass_is_not_asked_again(word: str, kind: type[Exception]) -> None:
    store, faulty, clock = retrying(f"fetch_range: {word}")
    with pytest.raises(kind):
        store.fetch_range(f"{md5(b'foo')}+3", 0, 1)
    assert faulty.calls("fetch_range") == 1
    assert clock.slept_s == []


def test_every_verb_is_retried(tmp_path: Path) -> None:
    verbs = ("put", "adopt", "fetch_range", "contains", "barrier", "free_bytes")
    store, faulty, _ = retrying("; ".join(f"{verb}: FAIL" for verb in verbs))
    locator = store.put(b"foo")
    assert store.adopt(*spooled(tmp_path / "s", b"foo")) == locator
    assert bytes(store.fetch_range(locator, 1, 2)) == b"oo"
    assert store.contains(locator)
    store.barrier()
    assert store.free_bytes() == (0, 0)
    assert [faulty.calls(verb) for verb in verbs] == [2] * 6
    store.close()
    assert repr(store).startswith("<Retrying 3x <Faulty ok")


def test_one_attempt_is_no_retry() -> None:
    store, faulty, _ = retrying("put: FAIL", attempts=1)
    with pytest.raises(StoreUnavailable):
        store.put(b"foo")
    assert faulty.calls("put") == 1
    with pytest.raises(ArgumentError):
        retrying("", attempts=0)
