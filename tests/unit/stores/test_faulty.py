from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import (
    ArgumentError,
    ArvfuseError,
    BlockMissing,
    Damaged,
    DigestCollision,
    NoSpace,
    StoreUnavailable,
)
from arvfuse.stores.faulty import VERBS, Fault, Faulty, parse_script
from arvfuse.stores.memory import MemoryStore
from tests.support.stores import md5, spooled

FOO = f"{md5(b'foobar')}+6"


def test_parse_script() -> None:
    assert parse_script("") == {}
    assert parse_script("put: ok ok FAIL; fetch_range: AFTER*2 FAIL*;") == {
        "put": [(Fault.OK, 1), (Fault.OK, 1), (Fault.FAIL, 1)],
        "fetch_range": [(Fault.AFTER, 2), (Fault.FAIL, -1)],
    }
    for script in ("put ok", "pat: ok", "put: maybe", "put: ok*x"):
        with pytest.raises(ArgumentError):
            parse_script(script)


def test_calls_follow_the_script_verb_by_verb() -> None:
    inner = MemoryStore()
    store = Faulty(inner, "put: ok FAIL ok; fetch_range: FAIL*2")
    assert repr(store).startswith("<Faulty put: ok*1 FAIL*1 ok*1; fetch_range: FAIL*2 <MemoryStore")
    assert store.put(b"foobar") == FOO
    with pytest.raises(StoreUnavailable):
        store.put(b"x")
    assert not inner.contains(f"{md5(b'x')}+1")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.fetch_range(FOO, 0, 6)
    assert bytes(store.fetch_range(FOO, 0, 6)) == b"foobar"
    store.put(b"y")
    store.put(b"z")
    assert (store.calls("put"), store.calls("fetch_range"), store.calls("barrier")) == (4, 3, 0)


def test_forever_is_until_another_script() -> None:
    store = Faulty(MemoryStore(), "put: FAIL*")
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            store.put(b"foobar")
    store.rescript("put: ok FAIL")
    assert store.put(b"foobar") == FOO
    with pytest.raises(StoreUnavailable):
        store.put(b"foobar")


def test_after_has_its_effect_and_partial_half_of_it(tmp_path: Path) -> None:
    inner = MemoryStore()
    store = Faulty(inner, "put: PARTIAL AFTER; adopt: PARTIAL AFTER; fetch_range: PARTIAL")
    with pytest.raises(StoreUnavailable):
        store.put(b"foobar")
    assert list(inner.blocks()) == [f"{md5(b'foo')}+3"]
    with pytest.raises(StoreUnavailable):
        store.put(b"foobar")
    assert inner.contains(FOO)
    spool = spooled(tmp_path / "s", b"barfoo")
    with pytest.raises(StoreUnavailable):
        store.adopt(*spool)
    assert inner.contains(f"{md5(b'bar')}+3")
    assert not inner.contains(f"{md5(b'barfoo')}+6")
    with pytest.raises(StoreUnavailable):
        store.adopt(*spool)
    assert inner.contains(f"{md5(b'barfoo')}+6")
    with pytest.raises(StoreUnavailable):
        store.fetch_range(FOO, 0, 6)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("FAIL", StoreUnavailable),
        ("NOSPACE", NoSpace),
        ("MISSING", BlockMissing),
        ("DAMAGED", Damaged),
        ("COLLISION", DigestCollision),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_fail_in_every_way(tmp_path: Path, verb: str, word: str, kind: type[ArvfuseError]) -> None:
    store = Faulty(MemoryStore(), f"{verb}: {word}")
    calls = {
        "put": lambda: store.put(b"foobar"),
        "adopt": lambda: store.adopt(*spooled(tmp_path / "s", b"foobar")),
        "fetch_range": lambda: store.fetch_range(FOO, 0, 6),
        "contains": lambda: store.contains(FOO),
        "barrier": store.barrier,
        "free_bytes": store.free_bytes,
    }
    with pytest.raises(kind, match=verb):
        calls[verb]()
    store.close()


def test_a_lie() -> None:
    store = Faulty(MemoryStore(), "put: FLIP; fetch_range: FLIP")
    store.put(b"foobar")
    assert bytes(store.fetch_range(FOO, 0, 6)) == b"\xe6oobar"
    assert bytes(store.fetch_range(FOO, 0, 6)) == b"foobar"
