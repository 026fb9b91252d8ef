from __future__ import annotations

from arvfuse.stores.lru import Lru


def test_the_oldest_use_goes_first() -> None:
    lru: Lru[str, int] = Lru(10)
    assert lru.put("a", 1, 4) == []
    assert lru.put("b", 2, 4) == []
    assert lru.get("a") == 1
    assert lru.put("c", 3, 4) == [("b", 2)]
    assert (lru.get("a"), lru.get("b"), lru.get("c")) == (1, None, 3)
    assert lru.weight == 8
    assert len(lru) == 2
    assert repr(lru) == "<Lru 2 entries, 8 of 10>"


def test_a_new_value_replaces() -> None:
    lru: Lru[str, int] = Lru(10)
    lru.put("a", 1, 9)
    assert lru.put("a", 2, 3) == []
    assert lru.get("a") == 2
    assert lru.weight == 3


def test_what_is_too_heavy_is_given_back() -> None:
    lru: Lru[str, int] = Lru(10)
    lru.put("a", 1, 5)
    assert lru.put("b", 2, 11) == [("a", 1), ("b", 2)]
    assert lru.weight == 0


def test_pop_and_clear() -> None:
    lru: Lru[str, int] = Lru(10)
    lru.put("a", 1, 5)
    lru.put("b", 2, 5)
    assert lru.pop("a") == 1
    assert lru.pop("a") is None
    assert lru.weight == 5
    assert lru.clear() == [2]
    assert (len(lru), lru.weight) == (0, 0)
